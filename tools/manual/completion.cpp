#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "tools/common/card.h"
#include "tools/manual/manual.h"

namespace neurogen {
namespace {

// Completions of an option's value, derived from its type name: FILE.json and TEXT mean files, CARD the cards, full|small these two
// words; a number or N has none.
struct Values {
  std::string words;
  bool files = false;

  explicit Values(const CLI::Option& option) {
    std::istringstream parts(option.get_lnames().empty() ? "FILE" : option.get_type_name());
    for (std::string part; std::getline(parts, part, '|');) {
      part.resize(std::min(part.size(), part.find('[')));  // cuda[:K] is completed to cuda
      const bool names = std::any_of(part.begin(), part.end(), [](unsigned char c) { return std::isupper(c); });
      if (part == "CARD") words += fmt::format(" {}", fmt::join(card_names(), " "));
      else if (part == "until:LINE") words += " until:";
      else if (!names) words += " " + part;
      else files = files || part.find("FILE") != part.npos || part == "TEXT" || part == "PREFIX";
    }
    if (!words.empty()) words.erase(0, 1);
  }
};

std::string replaced(std::string text, const std::string& characters, const std::string& before) {
  for (std::size_t at = 0; (at = text.find_first_of(characters, at)) != text.npos; at += before.size() + 1) text.insert(at, before);
  return text;
}
std::string shell_quoted(const std::string& text) {  // for bash and zsh
  std::string safe = "'";
  for (const char c : text) safe += c == '\'' ? "'\\''" : std::string(1, c);
  return safe + "'";
}
std::string function_of(const CLI::App& app) {
  std::string name = "_" + app.get_name();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string words_of(const CLI::App& app) {
  std::string words;
  for (const CLI::Option* option : options_of(app)) {
    for (const std::string& name : option->get_lnames()) words += (words.empty() ? "--" : " --") + name;
  }
  return words;
}

// Adds the options whose values are words; such an option means the same in all subcommands.
void add_value_cases(const CLI::App& app, std::string& cases) {
  for (const CLI::Option* option : options_of(app)) {
    const Values values(*option);
    if (values.words.empty() || !takes_value(*option) || option->get_lnames().empty()) continue;
    const std::string one =
        fmt::format("    --{}) words='{}' files={} ;;\n", option->get_lnames()[0], values.words, values.files ? 1 : 0);
    if (cases.find(one) == cases.npos) cases += one;
  }
}

std::string zsh_arguments(const CLI::App& app, const std::string& indent) {
  std::string text = indent + "_arguments -S";
  for (const CLI::Option* option : options_of(app)) {
    const Values values(*option);
    const std::string type = replaced(option->get_type_name(), ":\\", "\\");
    const std::string completes = values.files && values.words.empty() ? "_files"
                                  : values.files                       ? fmt::format("{{compadd {}; _files}}", values.words)
                                                                       : fmt::format("({})", replaced(values.words, ":", "\\"));
    std::string spec = option->get_lnames().empty() ? "*" : "";
    for (const std::string& name : option->get_lnames()) {
      spec = fmt::format("{}--{}[{}]", option->get_items_expected_max() > 1 ? "*" : "", name,
                         replaced(option->get_description(), "[]:\\", "\\"));
    }
    if (takes_value(*option)) spec += fmt::format(":{}:{}", type, completes);
    text += fmt::format(" \\\n{}  {}", indent, shell_quoted(spec));
  }
  return text + "\n";
}

std::string fish_options(const CLI::App& app, const std::string& program, const std::string& condition) {
  std::string text;
  for (const CLI::Option* option : options_of(app)) {
    const Values values(*option);
    for (const std::string& name : option->get_lnames()) {
      const char* value = !takes_value(*option) ? "" : values.files ? " -r" : " -x";
      text += fmt::format("complete -c {}{} -l {}{}{} -d '{}'\n", program, condition, name, value,
                          values.words.empty() ? "" : fmt::format(" -a '{}'", values.words),
                          replaced(option->get_description(), "'\\", "\\"));
    }
  }
  return text;
}

}  // namespace

// Completes values after their option, options after a dash, commands in the first place, file names everywhere else.
std::string bash_completion(const CLI::App& app) {
  const std::string function = function_of(app);
  std::string commands, cases, values;
  add_value_cases(app, values);
  for (const CLI::App* command : commands_of(app)) {
    const std::string& name = command->get_name();
    commands += " " + name;
    cases += fmt::format("    {}) words='{}' ;;\n", name == "train" ? "train|--*" : name, words_of(*command));
    add_value_cases(*command, values);
  }
  std::string text = fmt::format(
      "{}() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words='{}' files=0\n"
      "  if [ \"$word\" = = ]; then word=; elif [ \"$before\" = = ]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi\n",
      function, words_of(app));
  if (!commands.empty()) {
    text += fmt::format("  case ${{COMP_WORDS[1]}} in\n{}  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then words+='{}'; fi\n", cases,
                        commands);
  }
  return text +
         fmt::format(
             "  case $before in\n{}    *) [[ $word == -* || $COMP_CWORD -eq 1 ]] || return ;;\n  esac\n"
             "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\"; [ $files -eq 0 ] || compgen -f -- \"$word\")\n}}\n"
             "complete -o default -F {} {}\n",
             values, function, app.get_name());
}

std::string zsh_completion(const CLI::App& app) {
  std::string text = fmt::format("#compdef {}\n", app.get_name()), names;
  if (commands_of(app).empty()) return text + zsh_arguments(app, "");
  text += "if (( CURRENT == 2 )); then\n  local -a commands=(\n";
  for (const CLI::App* command : commands_of(app)) {
    text += fmt::format("    {}\n", shell_quoted(command->get_name() + ":" + replaced(command->get_description(), ":", "\\")));
  }
  text += "  )\n  _describe command commands\nfi\ncase $words[2] in\n";
  for (const CLI::App* command : commands_of(app)) {
    const bool train = command->get_name() == "train";  // may be omitted
    text += fmt::format("  {})\n    [[ $words[2] == -* ]] || {{ shift words; (( CURRENT-- )) }}\n{}    ;;\n",
                        train ? "train|-*" : command->get_name(), zsh_arguments(*command, "    "));
  }
  return text + "esac\n";
}

std::string fish_completion(const CLI::App& app) {
  const std::string& program = app.get_name();
  if (commands_of(app).empty()) return fish_options(app, program, "");
  std::string text = fish_options(app, program, " -n __fish_use_subcommand"), others;
  for (const CLI::App* command : commands_of(app)) {
    const std::string& name = command->get_name();
    text += fmt::format("complete -c {} -n __fish_use_subcommand -f -a {} -d '{}'\n", program, name,
                        replaced(command->get_description(), "'\\", "\\"));
    if (name != "train") others += " " + name;
  }
  for (const CLI::App* command : commands_of(app)) {
    const bool train = command->get_name() == "train";  // may be omitted
    text += fish_options(*command, program,
                         train ? fmt::format(" -n 'not __fish_seen_subcommand_from{}'", others)
                               : fmt::format(" -n '__fish_seen_subcommand_from {}'", command->get_name()));
  }
  return text;
}

}  // namespace neurogen
