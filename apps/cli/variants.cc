// tilewise variants: the zoo.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "tilewise/error.h"
#include "tilewise/suggest.h"
#include "tilewise/zoo.h"

namespace tilewise::cli {
namespace {

/// The entry of a name; all entries for an empty one.
std::vector<const zoo::Entry*> chosen(const std::string& name) {
  std::vector<const zoo::Entry*> found;
  std::vector<std::string_view> names;
  for (const zoo::Entry& entry : zoo::entries()) {
    names.push_back(entry.name);
    if (name.empty() || entry.name == name) found.push_back(&entry);
  }
  if (found.empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("variants: there is none called '{}'{}; `tilewise variants` lists all", name,
                            did_you_mean(name, names)));
  }
  return found;
}

/// A list of all entries has a line for each, and its example; one alone is shown whole.
std::string answer_text(const std::string& name) {
  const auto found = chosen(name);
  std::string text;
  for (const zoo::Entry* entry : found) {
    if (found.size() > 1) {
      text += fmt::format("{:<20} {}\n{:<20} e.g. {}\n", entry->name, entry->summary, "", entry->example);
    } else {
      text += fmt::format("{}\n\n  {}\n\nSource:  {}\nExample: tilewise explain attention --variant '{}'\n\n{}\n",
                          entry->summary, entry->mathematics, entry->source, entry->example,
                          to_string(parse_variant(std::string(entry->example))));
    }
  }
  return text;
}

const char* kind_name(zoo::ArgumentKind kind) {
  switch (kind) {
    case zoo::ArgumentKind::integer: return "int";
    case zoo::ArgumentKind::real: return "real";
    case zoo::ArgumentKind::integers: return "[int]";
  }
  return "";
}

Json answer_json(const std::string& name) {
  Json list = Json::array();
  for (const zoo::Entry* entry : chosen(name)) {
    Json arguments = Json::array();
    for (const zoo::ArgumentInfo& argument : entry->arguments) {
      Json described{{"name", argument.name}, {"kind", kind_name(argument.kind)}};
      if (argument.has_default)
        described["default"] = std::visit([](const auto& value) { return Json(value); }, argument.default_value);
      arguments.push_back(described);
    }
    list.push_back({{"name", entry->name},
                    {"summary", entry->summary},
                    {"source", entry->source},
                    {"mathematics", entry->mathematics},
                    {"arguments", arguments},
                    {"example", entry->example}});
  }
  return list;
}

}  // namespace

void add_variants(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("variants", "The named variants: what each does, with an example");
  const auto name = std::make_shared<std::string>();
  command.add_option("name", *name, "Show this one whole: its mathematics, source and recorded form");
  command.footer(
      "Examples:\n"
      "  tilewise variants\n"
      "  tilewise variants bigbird\n"
      "  tilewise variants --json\n"
      "Compose them with each other and with your own by '&':\n"
      "  tilewise explain attention --variant 'causal() & alibi(8) & keep(query - key < 512)'");
  add_answers(
      command, [=] { return answer_text(*name); }, [=] { return answer_json(*name); });
}

}  // namespace tilewise::cli
