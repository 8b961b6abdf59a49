// A program's manual page and shell completion, generated from the options that it parses.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace neurogen {

inline const std::vector<std::string> kPrograms = {"neurogen-engine", "neurogen-corpus", "neurogen-plan"};

inline std::vector<const CLI::Option*> options_of(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return !option->get_lnames().empty() || option->get_positional(); });
}
inline std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}
inline bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string manual_page(const CLI::App& app);  // roff
// The type name of an option decides how its value is completed: full|small|FILE.json means two words or a file.
std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);
std::string fish_completion(const CLI::App& app);

}  // namespace neurogen
