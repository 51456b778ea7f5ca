// Packing of rows of any storage type, for the x86 engines.
#pragma once

#include "cpu/isa/avx_rows.h"
#include "cpu/isa/with_row.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {
namespace {

struct AvxPacking {
  template <class Function>
  static void with_element(DType dtype, Function&& f) {
    with_element_of(dtype, f);
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
