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
