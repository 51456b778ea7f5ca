// What the zoo says of each named variant: enough for the textual form, the command line, the docs and Python.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "tilewise/variant.h"

namespace tilewise::zoo {

/// An argument in the textual form: a number, or a list of ints such as document lengths.
using Argument = std::variant<double, std::vector<std::int32_t>>;

/// What an argument must be.
enum class ArgumentKind : std::uint8_t { integer, real, integers };

/// One argument of a named variant. Those with a default may be left out, from the last one on.
struct ArgumentInfo {
  std::string_view name;  // "size"
  ArgumentKind kind = ArgumentKind::integer;
  bool has_default = false;
  Argument default_value = 0.0;  // of that kind
};

/// A named variant. `make` takes exactly `arguments.size()` arguments of the right kinds (the parser fills in defaults
/// and checks kinds); it throws Error on values that the variant does not take.
struct Entry {
  std::string_view name;         // "window"
  std::string_view summary;      // one line
  std::string_view source;       // paper or project
  std::string_view mathematics;  // the formula as people write it
  std::string_view example;      // a call in the textual form, which works as it stands
  std::vector<ArgumentInfo> arguments;
  Variant (*make)(std::span<const Argument> arguments);
};

/// All entries, sorted by name.
std::span<const Entry> entries();

/// The entry of that name, or null.
const Entry* find(std::string_view name);

}  // namespace tilewise::zoo
