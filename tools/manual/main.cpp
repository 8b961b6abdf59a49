// manual: a program's manual page and the shell's completion of it, from the options that the program parses with.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "tools/common/program.h"
#include "tools/corpus/commands.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/plan/program.h"

namespace neurogen {
namespace {

using Options = std::vector<const CLI::Option*>;
constexpr const char* kPrograms[] = {"neurogen-engine", "corpus", "plan"};

Options options_of(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return !option->get_lnames().empty() || option->get_positional(); });
}
std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// A text as roff prints it: hyphens are hyphens, and no line begins with its commands.
std::string roff(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '\\') safe += "\\e";
    else if (c == '-') safe += "\\-";
    else if ((c == '.' || c == '\'') && safe.empty()) safe += std::string("\\&") + c;
    else safe += c;
  }
  return safe;
}

void print_options(const CLI::App& app) {
  for (const CLI::Option* option : options_of(app)) {
    std::string value;
    if (option->get_items_expected_max() > 0) value = fmt::format(" \\fI{}\\fR", roff(option->get_type_name()));
    if (option->get_items_expected_max() > 1) value += " ...";
    std::string meaning = roff(option->get_description());
    if (!option->get_default_str().empty()) meaning += fmt::format(" (default {})", roff(option->get_default_str()));
    fmt::print(".TP\n\\fB{}\\fR{}\n{}\n", roff(option->get_name(option->get_lnames().empty(), true)), value, meaning);
  }
}

// "Makes tokens of text." as what stands behind a program's name.
std::string phrase(std::string sentence) {
  sentence[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(sentence[0])));
  if (sentence.ends_with('.')) sentence.pop_back();
  return sentence;
}

void print_page(const CLI::App& app) {
  const std::string name = roff(app.get_name());
  std::string title = name;
  std::transform(title.begin(), title.end(), title.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  fmt::print(".TH {} 1 \"\" \"{} " NEUROGEN_VERSION "\"\n.SH NAME\n{} \\- {}\n", title, app.get_name(), name,
             roff(phrase(app.get_description())));
  const std::vector<const CLI::App*> commands = commands_of(app);
  fmt::print(".SH SYNOPSIS\n.B {}\n{}[\\fIOPTION\\fR ...]\n.SH DESCRIPTION\n{}\n", name,
             commands.empty() ? "" : "[\\fICOMMAND\\fR] ", roff(app.get_description()));
  if (!app.get_footer().empty()) fmt::print(".PP\n{}\n", roff(app.get_footer()));
  if (commands.empty()) fmt::print(".SH OPTIONS\n");
  print_options(app);
  if (!commands.empty()) fmt::print(".SH COMMANDS\n");
  for (const CLI::App* command : commands) {
    fmt::print(".SS {} {}\n{}\n", name, roff(command->get_name()), roff(command->get_description()));
    print_options(*command);
  }
  fmt::print(
      ".SH EXIT STATUS\n0 where all went well, 2 for misuse or a refusal, 1 for a failure at run time, 129, 130 and 143 after "
      "SIGHUP, SIGINT "
      "and SIGTERM.\n"
      ".SH SEE ALSO\n");
  for (const char* other : kPrograms) {
    if (app.get_name() != other) fmt::print(".BR {} (1),\n", roff(other));
  }
  fmt::print("and the examples and explanations in /usr/share/doc/neurogen\\-engine/README.md.\n");
}

std::string words_of(const CLI::App& app) {
  std::string words;
  for (const CLI::Option* option : options_of(app)) {
    for (const std::string& name : option->get_lnames()) words += (words.empty() ? "--" : " --") + name;
  }
  return words;
}

// Options behind a dash, commands in the first place, names of files everywhere else.
void print_completion(const CLI::App& app) {
  const std::string& program = app.get_name();
  std::string function = "_" + program, commands, cases;
  std::replace(function.begin(), function.end(), '-', '_');
  for (const CLI::App* command : commands_of(app)) {
    const std::string& name = command->get_name();
    commands += " " + name;
    cases += fmt::format("    {}) words='{}' ;;\n", name == "train" ? "train|--*" : name, words_of(*command));
  }
  fmt::print("{}() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}} words='{}'\n", function, words_of(app));
  if (!commands.empty()) {
    fmt::print("  case ${{COMP_WORDS[1]}} in\n{}  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then words+='{}'; fi\n", cases, commands);
  }
  fmt::print(
      "  if [[ $word == -* || $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$word\")); fi\n}}\n"
      "complete -o default -F {} {}\n",
      function, program);
}

}  // namespace
}  // namespace neurogen

int main(int argc, char** argv) {
  int status = 0;
  CLI::App app;
  const std::string what = argc == 3 ? argv[1] : "", program = argc == 3 ? argv[2] : "";
  if (program == neurogen::kPrograms[0]) neurogen::add_commands(app, status);
  else if (program == neurogen::kPrograms[1]) neurogen::add_corpus(app);
  else if (program == neurogen::kPrograms[2]) neurogen::add_plan_program(app, status);
  else return fmt::print(stderr, "manual: the program is \"{}\": use {}\n", program, fmt::join(neurogen::kPrograms, ", ")), 2;
  if (what == "page") neurogen::print_page(app);
  else if (what == "completion") neurogen::print_completion(app);
  else return fmt::print(stderr, "manual: what to print is \"{}\": use page or completion\n", what), 2;
}
