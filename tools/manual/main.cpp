// manual: the manual page and the shell's completion of neurogen-engine, from the options that the program parses with.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tools/common/program.h"
#include "tools/neurogen-engine/commands.h"

namespace neurogen {
namespace {

using Options = std::vector<const CLI::Option*>;

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

void print_page(const CLI::App& app) {
  const std::string name = roff(app.get_name());
  fmt::print(".TH NEUROGEN\\-ENGINE 1 \"\" \"{} " NEUROGEN_VERSION "\"\n.SH NAME\n{} \\- trains, evaluates and speaks with a brain\\-shaped language model\n",
             app.get_name(), name);
  fmt::print(".SH SYNOPSIS\n.B {}\n[\\fICOMMAND\\fR] [\\fIOPTION\\fR ...]\n.SH DESCRIPTION\n{}\n.PP\n{}\n", name, roff(app.get_description()),
             roff(app.get_footer()));
  print_options(app);
  fmt::print(".SH COMMANDS\n");
  for (const CLI::App* command : commands_of(app)) {
    fmt::print(".SS {} {}\n{}\n", name, roff(command->get_name()), roff(command->get_description()));
    print_options(*command);
  }
  fmt::print(".SH EXIT STATUS\n0 where all went well, 2 for misuse or a refusal, 1 for a failure at run time, 130 and 143 after SIGINT and SIGTERM.\n"
             ".SH SEE ALSO\nThe examples and explanations in /usr/share/doc/neurogen\\-engine/README.md.\n");
}

void print_words(const std::string& pattern, const Options& options) {
  std::string words;
  for (const CLI::Option* option : options) {
    for (const std::string& name : option->get_lnames()) words += (words.empty() ? "--" : " --") + name;
  }
  fmt::print("    {}) words='{}' ;;\n", pattern, words);
}

// Options behind a dash, commands in the first place, names of files everywhere else.
void print_completion(const CLI::App& app) {
  std::string commands;
  for (const CLI::App* command : commands_of(app)) commands += command->get_name() + " ";
  fmt::print("_neurogen_engine() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}} words\n  case $command in\n");
  for (const CLI::App* command : commands_of(app)) {
    const std::string& name = command->get_name();
    print_words(name == "train" ? "train|--*" : name, options_of(*command));
  }
  fmt::print("  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then words+=' {}--help --version'; fi\n", commands);
  fmt::print("  if [[ $word == -* || $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$word\")); fi\n}}\n"
             "complete -o default -F _neurogen_engine neurogen-engine\n");
}

}  // namespace
}  // namespace neurogen

int main(int argc, char** argv) {
  int status = 0;
  CLI::App app;
  neurogen::add_commands(app, status);
  const std::string what = argc == 2 ? argv[1] : "";
  if (what == "page") neurogen::print_page(app);
  else if (what == "completion") neurogen::print_completion(app);
  else return fmt::print(stderr, "manual: what to print is \"{}\": use page or completion\n", what), 2;
}
