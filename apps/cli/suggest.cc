#include "suggest.h"

#include <fmt/format.h>

#include "tilewise/suggest.h"

namespace tilewise::cli {
namespace {

CLI::App* subcommand_of(CLI::App& command, const std::string& name) {
  for (CLI::App* subcommand : command.get_subcommands({})) {
    if (subcommand->get_name() == name) return subcommand;
  }
  return nullptr;
}

std::vector<std::string> subcommand_names(CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* subcommand : command.get_subcommands({})) names.push_back(subcommand->get_name());
  return names;
}

std::vector<std::string> option_names(CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

bool is_positional(CLI::App& command, const std::string& option) {
  const CLI::Option* found = command.get_option_no_throw(option.substr(2));
  return found != nullptr && found->get_positional();
}

/// Empty where no known word is close.
std::string suggestion(const std::string& typed, const std::vector<std::string>& known) {
  const std::vector<std::string_view> words(known.begin(), known.end());
  const auto word = closest_word(typed, words);
  return word ? fmt::format("'{}' is not known here; did you mean '{}'?\n", typed, *word) : "";
}

std::string suggestion_of_command(const std::string& typed, const std::vector<std::string>& known) {
  const std::string close = suggestion(typed, known);
  return close.empty() ? fmt::format("'{}' is not known here; expected one of {}\n", typed, fmt::join(known, ", "))
                       : close;
}

}  // namespace

std::string suggestions(CLI::App& program, int argc, const char* const* arguments) {
  CLI::App* command = &program;
  for (int i = 1; i < argc; ++i) {
    const std::string typed = arguments[i];
    const std::string name = typed.substr(0, typed.find('='));
    if (name.starts_with("--")) {
      if (command->get_option_no_throw(name) != nullptr) continue;
      if (is_positional(*command, name)) return fmt::format("'{}' is given without a name\n", name.substr(2));
      return suggestion(name, option_names(*command));
    } else if (CLI::App* next = subcommand_of(*command, typed)) {
      command = next;
    } else if (!command->get_subcommands({}).empty()) {
      return suggestion_of_command(typed, subcommand_names(*command));
    }
  }
  return "";
}

}  // namespace tilewise::cli
