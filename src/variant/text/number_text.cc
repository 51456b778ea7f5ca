#include "variant/text/number_text.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/element.h"

namespace tilewise::variant {
namespace {

constexpr int kDigits = std::numeric_limits<double>::max_digits10;  // enough for any double

double value_of(const std::string& text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

bool is_int32(double value) {
  using Limits = std::numeric_limits<std::int32_t>;
  return value == std::floor(value) && value >= Limits::min() && value <= Limits::max() &&
         !(value == 0 && std::signbit(value));
}

std::string number_text(Type type, double value) {
  if (type == Type::boolean) return value != 0 ? "true" : "false";
  std::string text = fmt::format("{}", value);
  if (type == Type::int32) return fmt::format("{:.0f}", value);
  return text.find_first_of(".ein") == std::string::npos ? text + ".0" : text;
}

std::string bound_text(double value) { return fmt::format("{}", value); }

std::string element_text(DType dtype, const std::byte* element) {
  if (dtype == DType::boolean) return load_int(element, dtype) != 0 ? "true" : "false";
  if (is_integer(dtype)) return fmt::format("{}", load_int(element, dtype));
  const double value = load_real(element, dtype);
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : bound_text(value);
  // Few digits name a narrow float; the first count that reads back is the shortest.
  for (int digits = 1; digits < kDigits; ++digits) {
    const double rounded = value_of(fmt::format("{:.{}e}", value, digits - 1));
    std::array<std::byte, sizeof(double)> read_back{};
    store_real(read_back.data(), dtype, rounded);
    if (std::memcmp(read_back.data(), element, static_cast<std::size_t>(size_of(dtype))) == 0)
      return bound_text(rounded);
  }
  return bound_text(value);
}

}  // namespace tilewise::variant
