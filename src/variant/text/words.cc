#include "variant/text/words.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "variant/graph.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

constexpr auto kPunctuation = std::to_array<std::string_view>({"(", ")", "[", "]", ",", ";", ":", "=", "?", "."});
constexpr auto kStages = std::to_array<std::string_view>({"keep", "score", "sink", "dropout", "plain"});
constexpr auto kKeywords =
    std::to_array<std::string_view>({"s", "inf", "nan", "true", "false", "constant", "let", "table", "param", "in"});

bool is_word(std::string_view symbol) { return std::isalpha(static_cast<unsigned char>(symbol[0])) != 0; }

bool contains(std::span<const std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

const Info& info_of(std::int32_t number) { return kInfo[static_cast<std::size_t>(number)]; }

bool is_operator_word(std::string_view word) {
  return std::any_of(kInfo.begin(), kInfo.end(), [&](const Info& info) { return info.symbol == word; });
}

bool is_coordinate(std::string_view word) {
  for (int c = 0; c < kCoordinates; ++c) {
    if (word == to_string(static_cast<Coordinate>(c))) return true;
  }
  return false;
}

}  // namespace

Fix fix_of(std::int32_t number) {
  if (info_of(number).precedence == kCall) return Fix::call;
  return info_of(number).operands == 1 ? Fix::prefix : Fix::infix;
}

std::int32_t find_operation(Fix fix, std::string_view symbol) {
  for (std::int32_t number = 0; number < static_cast<std::int32_t>(kInfo.size()); ++number) {
    if (info_of(number).symbol == symbol && fix_of(number) == fix) return number;
  }
  return kNoOperation;
}

int left_binding(std::int32_t number) {
  const Info& info = info_of(number);
  const bool groups_from_left = number != number_of<Power> && info.rule != Rule::comparison;
  return groups_from_left ? info.precedence : info.precedence + 1;
}

int right_binding(std::int32_t number) {
  // As in Python, a sign may follow ** though it binds less tightly: x ** -0.5.
  return number == number_of<Power> ? info_of(number_of<Negation>).precedence : info_of(number).precedence + 1;
}

std::span<const std::string_view> symbols() {
  static const std::vector<std::string_view> kSymbols = [] {
    std::vector<std::string_view> all(std::begin(kPunctuation), std::end(kPunctuation));
    for (const Info& info : kInfo) {
      if (!is_word(info.symbol) && !contains(all, info.symbol)) all.push_back(info.symbol);
    }
    std::stable_sort(all.begin(), all.end(), [](auto a, auto b) { return a.size() > b.size(); });
    return all;
  }();
  return kSymbols;
}

std::span<const std::string_view> function_names() {
  static const std::vector<std::string_view> kNames = [] {
    std::vector<std::string_view> all{"constant"};
    for (const Info& info : kInfo) {
      if (info.precedence == kCall) all.push_back(info.symbol);
    }
    return all;
  }();
  return kNames;
}

std::span<const std::string_view> stage_names() { return kStages; }

bool is_reserved(std::string_view word) {
  return contains(kStages, word) || contains(kKeywords, word) || is_operator_word(word) || is_coordinate(word);
}

}  // namespace tilewise::variant
