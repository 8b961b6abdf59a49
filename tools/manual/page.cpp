#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "tools/manual/manual.h"

namespace neurogen {
namespace {

// Escapes a text for roff: hyphens are hyphens, no line begins with a roff command, and a list of values may break behind each bar.
std::string roff(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '\\') safe += "\\e";
    else if (c == '-') safe += "\\-";
    else if (c == '|') safe += "|\\:";
    else if ((c == '.' || c == '\'') && safe.empty()) safe += std::string("\\&") + c;
    else safe += c;
  }
  return safe;
}

std::string options_page(const CLI::App& app) {
  std::string page;
  for (const CLI::Option* option : options_of(app)) {
    std::string value;
    if (takes_value(*option)) value = fmt::format(" \\fI{}\\fR", roff(option->get_type_name()));
    if (option->get_items_expected_max() > 1) value += " ...";
    std::string meaning = roff(option->get_description());
    if (!option->get_default_str().empty()) meaning += fmt::format(" (default {})", roff(option->get_default_str()));
    page += fmt::format(".TP\n\\fB{}\\fR{}\n{}\n", roff(option->get_name(option->get_lnames().empty(), true)), value, meaning);
  }
  return page;
}

// Turns "Makes tokens of text." into the phrase after a program's name: "makes tokens of text".
std::string phrase(std::string sentence) {
  sentence[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(sentence[0])));
  if (sentence.ends_with('.')) sentence.pop_back();
  return sentence;
}

}  // namespace

std::string manual_page(const CLI::App& app) {
  const std::string name = roff(app.get_name());
  std::string title = name;
  std::transform(title.begin(), title.end(), title.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  std::string page = fmt::format(".TH {} 1 \"\" \"{} " NEUROGEN_VERSION "\"\n.SH NAME\n{} \\- {}\n", title, app.get_name(), name,
                                 roff(phrase(app.get_description())));
  const std::vector<const CLI::App*> commands = commands_of(app);
  page += fmt::format(".SH SYNOPSIS\n.B {}\n{}[\\fIOPTION\\fR ...]\n.SH DESCRIPTION\n{}\n", name,
                      commands.empty() ? "" : "[\\fICOMMAND\\fR] ", roff(app.get_description()));
  if (!app.get_footer().empty()) page += fmt::format(".PP\n{}\n", roff(app.get_footer()));
  if (commands.empty()) page += ".SH OPTIONS\n";
  page += options_page(app);
  if (!commands.empty()) page += ".SH COMMANDS\n";
  for (const CLI::App* command : commands) {
    page += fmt::format(".SS {} {}\n{}\n", name, roff(command->get_name()), roff(command->get_description()));
    page += options_page(*command);
  }
  page +=
      ".SH EXIT STATUS\n0 on success, 2 for misuse or a refusal, 1 for a failure at run time, 129, 130 and 143 after SIGHUP, "
      "SIGINT and "
      "SIGTERM.\n"
      ".SH SEE ALSO\n";
  for (const std::string& other : kPrograms) {
    if (app.get_name() != other) page += fmt::format(".BR {} (1),\n", roff(other));
  }
  return page + "and the examples and explanations in /usr/share/doc/neurogen\\-engine/README.md.\n";
}

}  // namespace neurogen
