#include "variant/text/declarations.h"

#include <cstddef>
#include <limits>
#include <optional>
#include <string>

#include "core/element.h"
#include "core/fail.h"

namespace tilewise::variant {
namespace {

struct Range {
  Number low, high;
};

/// `in [low, high]`, where it stands.
std::optional<Range> parse_range(Lexer& lexer) {
  if (!lexer.take_if("in")) return std::nullopt;
  lexer.expect("[", "a range [low, high]");
  const Number low = lexer.expect_number("a number");
  lexer.expect(",", "','");
  const Number high = lexer.expect_number("a number");
  lexer.expect("]", "']'");
  return Range{low, high};
}

/// Extents as they are written; -1 for ?.
std::vector<std::int64_t> parse_extents(Lexer& lexer) {
  lexer.expect("[", "the extents, such as [?, ?]");
  std::vector<std::int64_t> extents;
  do {
    if (extents.size() == kMaxRank) lexer.fail(lexer.peek(), fmt::format("a table has at most {} extents", kMaxRank));
    const Token begin = lexer.peek();
    extents.push_back(lexer.take_if("?") ? -1 : lexer.expect_int("an extent or ?"));
    if (extents.back() < 0 && !begin.is("?")) lexer.fail(begin, "the extent is negative, expected 0 or more");
  } while (lexer.take_if(","));
  lexer.expect("]", "',' or ']'");
  return extents;
}

void parse_element(Lexer& lexer, DType dtype, std::byte* element) {
  const Token begin = lexer.peek();
  if (dtype == DType::boolean) {
    if (!begin.is("true") && !begin.is("false")) lexer.fail_expected("true or false");
    return store_int(element, dtype, lexer.take().is("true") ? 1 : 0);
  }
  const Number number = lexer.expect_number("a number");
  if (is_floating(dtype)) return store_real(element, dtype, number.value);
  const std::int32_t value = lexer.as_int(number);
  lexer.source().at(begin.place, [&] { store_int(element, dtype, value); });
}

/// `[1, 2, 3]`: elements in row-major order.
std::vector<std::byte> parse_elements(Lexer& lexer, DType dtype) {
  const auto size = static_cast<std::size_t>(size_of(dtype));
  std::vector<std::byte> bytes;
  lexer.expect("[", "the table's values: [1, 2, 3]");
  if (lexer.take_if("]")) return bytes;
  do {
    bytes.resize(bytes.size() + size);
    parse_element(lexer, dtype, bytes.data() + bytes.size() - size);
  } while (lexer.take_if(","));
  lexer.expect("]", "',' or ']'");
  return bytes;
}

Table frozen_table(Lexer& lexer, const Token& name, DType dtype, const std::vector<std::int64_t>& extents) {
  const std::vector<std::byte> bytes = parse_elements(lexer, dtype);
  return lexer.source().at(name.place, [&] {
    for (std::int64_t extent : extents) {
      if (extent < 0) fail_argument("table '{}': an extent is ?, expected a number where values are given", name.text);
    }
    const ConstTensor data(bytes.data(), dtype, extents);
    const auto given = static_cast<std::int64_t>(bytes.size()) / size_of(dtype);
    if (data.elements() != given)
      fail_argument("table '{}': {} values are given, expected {}", name.text, given, data.elements());
    return Table::frozen(std::string(name.text), data);
  });
}

/// A table whose data is bound at the call brings its extents along.
Table bound_table(Lexer& lexer, const Token& name, DType dtype, const std::vector<std::int64_t>& extents) {
  return lexer.source().at(name.place, [&] {
    for (std::int64_t extent : extents) {
      if (extent >= 0) {
        fail_argument(
            "table '{}': the extent {} is given, but no values; expected ?, since data that is bound at the "
            "call brings its own extents",
            name.text, extent);
      }
    }
    return Table(std::string(name.text), dtype, static_cast<int>(extents.size()));
  });
}

}  // namespace

void parse_table(Lexer& lexer, Scope& scope) {
  const Token name = lexer.expect_name("the table's name");
  scope.expect_free(name);
  lexer.expect(":", "':' and the table's dtype");
  const Token word = lexer.expect_name("a dtype such as float32");
  const DType dtype = lexer.source().at(word.place, [&] { return dtype_from_string(std::string(word.text)); });
  const std::vector<std::int64_t> extents = parse_extents(lexer);
  const std::optional<Range> range = parse_range(lexer);
  Table table =
      lexer.take_if("=") ? frozen_table(lexer, name, dtype, extents) : bound_table(lexer, name, dtype, extents);
  if (range)
    table = lexer.source().at(range->low.place, [&] { return table.values_in(range->low.value, range->high.value); });
  scope.declare(name, std::move(table));
}

void parse_parameter(Lexer& lexer, Scope& scope) {
  const Token name = lexer.expect_name("the parameter's name");
  scope.expect_free(name);
  lexer.expect(":", "':' and the parameter's type");
  const Token type = lexer.peek();
  if (!type.is("real") && !type.is("int")) lexer.fail_expected("the type 'real' or 'int'");
  lexer.take();
  const std::optional<Range> range = parse_range(lexer);
  const std::string word(name.text);
  if (type.is("real")) {
    const double low = range ? range->low.value : -kInfinity, high = range ? range->high.value : kInfinity;
    const std::size_t place = range ? range->low.place : name.place;
    return scope.declare(name, lexer.source().at(place, [&] { return Parameter(word, low, high); }));
  }
  if (!range) return scope.declare(name, Parameter::integer(word));
  const std::int32_t low = lexer.as_int(range->low), high = lexer.as_int(range->high);
  scope.declare(name, lexer.source().at(range->low.place, [&] { return Parameter::integer(word, low, high); }));
}

}  // namespace tilewise::variant
