#include "core/element.h"

#include <cstring>
#include <limits>
#include <type_traits>

#include "core/fail.h"
#include "core/float8.h"
#include "core/half.h"

namespace tilewise {
namespace {

/// Through memcpy: elements need not be aligned (a table may lie in a mapped file).
template <class T>
T load(const void* element) {
  T value;
  std::memcpy(&value, element, sizeof(T));
  return value;
}

template <class T>
void store(void* element, T value) {
  std::memcpy(element, &value, sizeof(T));
}

template <class T>
void store_in_range(void* element, DType dtype, std::int64_t value, std::int64_t largest) {
  const std::int64_t smallest = std::is_signed_v<T> ? std::int64_t{std::numeric_limits<T>::min()} : 0;
  if (value < smallest || value > largest)
    fail_argument("{} does not fit an element of dtype {}; expected {} to {}", value, to_string(dtype), smallest,
                  largest);
  store(element, static_cast<T>(value));
}

}  // namespace

bool is_floating(DType dtype) {
  return dtype == DType::float64 || dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

bool is_integer(DType dtype) { return !is_floating(dtype) && dtype != DType::float8_e4m3; }

bool is_scaled(DType dtype) { return dtype == DType::int8 || dtype == DType::float8_e4m3; }

double load_real(const void* element, DType dtype) {
  switch (dtype) {
    case DType::float64: return load<double>(element);
    case DType::float32: return load<float>(element);
    case DType::float16: return static_cast<double>(load<Float16>(element));
    case DType::bfloat16: return static_cast<double>(load<Bfloat16>(element));
    case DType::float8_e4m3: return static_cast<double>(load<Float8E4m3>(element));
    default: fail_argument("an element of dtype {} was read as a real; expected a floating dtype", to_string(dtype));
  }
}

void store_real(void* element, DType dtype, double value) {
  switch (dtype) {
    case DType::float64: return store(element, value);
    case DType::float32: return store(element, static_cast<float>(value));
    case DType::float16: return store(element, Float16(value));
    case DType::bfloat16: return store(element, Bfloat16(value));
    case DType::float8_e4m3: return store(element, Float8E4m3(value));
    default:
      fail_argument("a real was stored into an element of dtype {}; expected a floating dtype", to_string(dtype));
  }
}

std::int64_t load_int(const void* element, DType dtype) {
  switch (dtype) {
    case DType::int64: return load<std::int64_t>(element);
    case DType::int32: return load<std::int32_t>(element);
    case DType::int8: return load<std::int8_t>(element);
    case DType::uint8: return load<std::uint8_t>(element);
    case DType::boolean: return load<std::uint8_t>(element) != 0 ? 1 : 0;
    default:
      fail_argument("an element of dtype {} was read as an integer; expected an integer dtype", to_string(dtype));
  }
}

void store_int(void* element, DType dtype, std::int64_t value) {
  switch (dtype) {
    case DType::int64: return store(element, value);
    case DType::int32: return store_in_range<std::int32_t>(element, dtype, value, 0x7FFFFFFF);
    case DType::int8: return store_in_range<std::int8_t>(element, dtype, value, 0x7F);
    case DType::uint8: return store_in_range<std::uint8_t>(element, dtype, value, 0xFF);
    case DType::boolean: return store_in_range<std::uint8_t>(element, dtype, value, 1);
    default:
      fail_argument("an integer was stored into an element of dtype {}; expected an integer dtype", to_string(dtype));
  }
}

}  // namespace tilewise
