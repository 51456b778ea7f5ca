// A GGUF file's settings by key, with the type that the caller needs.
#include <cmath>
#include <cstring>
#include <limits>

#include "core/fail.h"
#include "io/cursor.h"
#include "io/gguf.h"

namespace tilewise::io {
namespace {

template <class T>
double load(const std::byte* element) {
  T value;
  std::memcpy(&value, element, sizeof(T));
  return static_cast<double>(value);
}

template <class T>
std::int64_t load_integer(const std::byte* element) {
  T value;
  std::memcpy(&value, element, sizeof(T));
  return static_cast<std::int64_t>(value);
}

using IntegerLoader = std::int64_t (*)(const std::byte*);

/// Null for what is no integer, and for uint64, of which int64 does not hold all.
IntegerLoader integer_loader(GgufType type) {
  switch (type) {
    case GgufType::uint8: return load_integer<std::uint8_t>;
    case GgufType::int8: return load_integer<std::int8_t>;
    case GgufType::uint16: return load_integer<std::uint16_t>;
    case GgufType::int16: return load_integer<std::int16_t>;
    case GgufType::uint32: return load_integer<std::uint32_t>;
    case GgufType::int32: return load_integer<std::int32_t>;
    case GgufType::int64: return load_integer<std::int64_t>;
    default: return nullptr;
  }
}

}  // namespace

GgufValue GgufValue::of_strings(std::vector<std::string_view> values) {
  GgufArray array{GgufType::string, values.size()};
  array.strings = std::move(values);
  return {GgufType::array, std::move(array)};
}

GgufValue GgufValue::of_floats(std::span<const float> values) {
  return {GgufType::array, GgufArray{GgufType::float32, values.size(), std::as_bytes(values)}};
}

GgufValue GgufValue::of_int32s(std::span<const std::int32_t> values) {
  return {GgufType::array, GgufArray{GgufType::int32, values.size(), std::as_bytes(values)}};
}

const GgufValue& GgufFile::value(std::string_view key) const {
  const auto found = keys_.find(key);
  if (found == keys_.end()) fail(ErrorCode::parse, "{}: setting '{}' is missing", path(), key);
  return metadata_[found->second].second;
}

void GgufFile::fail_type(std::string_view key, GgufType type, std::string_view expected) const {
  fail(ErrorCode::parse, "{}: setting '{}' has type {}; expected {}", path(), key, to_string(type), expected);
}

std::int64_t GgufFile::integer(std::string_view key, std::int64_t least, std::int64_t most) const {
  const GgufValue& found = value(key);
  std::int64_t number = 0;
  if (const auto* natural = std::get_if<std::uint64_t>(&found.value)) {
    if (*natural > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      fail(ErrorCode::parse, "{}: setting '{}' is {}; expected at most {}", path(), key, *natural, most);
    }
    number = static_cast<std::int64_t>(*natural);
  } else if (const auto* whole = std::get_if<std::int64_t>(&found.value)) {
    number = *whole;
  } else {
    fail_type(key, found.type, "an integer");
  }
  if (number < least || number > most) {
    fail(ErrorCode::parse, "{}: setting '{}' is {}; expected {} to {}", path(), key, number, least, most);
  }
  return number;
}

double GgufFile::real(std::string_view key) const {
  const GgufValue& found = value(key);
  const auto* number = std::get_if<double>(&found.value);
  if (number == nullptr) fail_type(key, found.type, "a real");
  if (!std::isfinite(*number))
    fail(ErrorCode::parse, "{}: setting '{}' is {}; expected a finite number", path(), key, *number);
  return *number;
}

bool GgufFile::boolean(std::string_view key) const {
  const GgufValue& found = value(key);
  const auto* truth = std::get_if<bool>(&found.value);
  if (truth == nullptr) fail_type(key, found.type, "a bool");
  return *truth;
}

std::string_view GgufFile::string(std::string_view key) const {
  const GgufValue& found = value(key);
  const auto* text = std::get_if<std::string_view>(&found.value);
  if (text == nullptr) fail_type(key, found.type, "a string");
  return *text;
}

const std::vector<std::string_view>& GgufFile::strings(std::string_view key) const {
  const GgufValue& found = value(key);
  const auto* array = std::get_if<GgufArray>(&found.value);
  if (array == nullptr || array->type != GgufType::string) fail_type(key, found.type, "an array of strings");
  return array->strings;
}

std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  const GgufValue& found = value(key);
  const auto* array = std::get_if<GgufArray>(&found.value);
  const IntegerLoader loader = array == nullptr ? nullptr : integer_loader(array->type);
  if (loader == nullptr) fail_type(key, found.type, "an array of integers of at most 63 bits");
  std::vector<std::int64_t> values(array->count);
  const std::int64_t size = size_of(array->type);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = loader(array->numbers.data() + static_cast<std::int64_t>(i) * size);
  }
  return values;
}

std::vector<double> GgufFile::reals(std::string_view key) const {
  const GgufValue& found = value(key);
  const auto* array = std::get_if<GgufArray>(&found.value);
  if (array == nullptr || (array->type != GgufType::float32 && array->type != GgufType::float64)) {
    fail_type(key, found.type, "an array of reals");
  }
  const auto loader = array->type == GgufType::float32 ? load<float> : load<double>;
  std::vector<double> values(array->count);
  const std::int64_t size = size_of(array->type);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = loader(array->numbers.data() + static_cast<std::int64_t>(i) * size);
    if (!std::isfinite(values[i])) {
      fail(ErrorCode::parse, "{}: element {} of setting '{}' is {}; expected a finite number", path(), i, key,
           values[i]);
    }
  }
  return values;
}

std::int64_t GgufFile::integer_or(std::string_view key, std::int64_t least, std::int64_t most,
                                  std::int64_t otherwise) const {
  return has(key) ? integer(key, least, most) : otherwise;
}

double GgufFile::real_or(std::string_view key, double otherwise) const { return has(key) ? real(key) : otherwise; }

bool GgufFile::boolean_or(std::string_view key, bool otherwise) const { return has(key) ? boolean(key) : otherwise; }

}  // namespace tilewise::io
