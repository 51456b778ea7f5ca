// Packing of rows of any storage type, for the x86 engines.
#pragma once

#include "cpu/isa/avx_rows.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {
namespace {

/// Calls f with a pointer of the rows' storage type to row `begin`. Plans admit these three types only.
template <class AnyRows, class Function>
inline void with_row(const AnyRows& rows, std::int64_t begin, Function&& f) {
  const std::int64_t offset = begin * rows.stride;
  constexpr bool kConst = std::is_const_v<std::remove_pointer_t<decltype(rows.data)>>;
  const auto at = [&]<class Element>(Element*) {
    using Pointer = std::conditional_t<kConst, const Element*, Element*>;
    f(static_cast<Pointer>(rows.data) + offset);
  };
  if (rows.dtype == DType::bfloat16)
    at(static_cast<BFloat16*>(nullptr));
  else if (rows.dtype == DType::float16)
    at(static_cast<Float16*>(nullptr));
  else
    at(static_cast<float*>(nullptr));
}

struct AvxPacking {
  /// Calls f with a null pointer of the source's storage type: what a plan admits as keys and values of decoding.
  template <class Function>
  static void with_element(DType dtype, Function&& f) {
    if (dtype == DType::int8) return f(static_cast<const std::int8_t*>(nullptr));
    if (dtype == DType::bfloat16) return f(static_cast<const BFloat16*>(nullptr));
    if (dtype == DType::float16) return f(static_cast<const Float16*>(nullptr));
    f(static_cast<const float*>(nullptr));
  }

  static void transpose_in(const Rows& rows, std::int64_t begin, int count, int width, float factor, float* packed,
                           int columns) {
    with_row(rows, begin,
             [&](const auto* row) { cpu::transpose_in(row, rows.stride, count, width, factor, packed, columns); });
  }

  static void transpose_out(const float* packed, int columns, const float* factors, std::int64_t begin, int count,
                            int width, const MutableRows& rows) {
    with_row(rows, begin,
             [&](auto* row) { cpu::transpose_out(packed, columns, factors, count, width, row, rows.stride); });
  }

  static void pack_panels(const Rows& rows, std::int64_t begin, int count, int width, int panel,
                          std::int64_t panel_stride, float* panels) {
    with_row(rows, begin,
             [&](const auto* row) { cpu::pack_panels(row, rows.stride, count, width, panel, panel_stride, panels); });
  }

  /// One row of `width` elements to float32, whatever the engine's operands are.
  static void to_floats(const Rows& row, int width, float* floats) {
    with_row(row, 0, [&](const auto* elements) { cpu::widen_rows(elements, 0, 1, width, floats); });
  }

  static void widen_rows(const Rows& rows, std::int64_t begin, int count, int width, float* packed) {
    with_row(rows, begin, [&](const auto* row) { cpu::widen_rows(row, rows.stride, count, width, packed); });
  }

  static void narrow_rows(const float* packed, int columns, float factor, std::int64_t begin, int count, int width,
                          const MutableRows& rows) {
    with_row(rows, begin,
             [&](auto* row) { cpu::narrow_rows(packed, columns, factor, count, width, row, rows.stride); });
  }
};

}  // namespace
}  // namespace tilewise::cpu
