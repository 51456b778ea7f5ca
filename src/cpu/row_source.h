// Loading keys and values from wherever they lie. Algorithms see rows; what a page, a hole or a scale is, is known here
// alone.
#pragma once

#include <cstdint>

#include "cpu/block.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {

/// Calls f(first, count, page) for runs of rows [begin, end) that share a page: `first` is the slot of the first within
/// the page.
template <class Function>
TILEWISE_INLINE void for_each_page(const RowSource& source, std::int64_t begin, std::int64_t end, const Function& f) {
  if (begin >= end) return;
  const std::int64_t tokens = source.page_tokens;
  std::int64_t at = (source.first_slot + begin) / tokens, slot = (source.first_slot + begin) % tokens;
  for (std::int64_t left = end - begin; left > 0; ++at, slot = 0) {
    const std::int64_t count = left < tokens - slot ? left : tokens - slot;
    f(slot, count, std::int64_t{source.block_table[at]});
    left -= count;
  }
}

/// Rows of a source that lie one stride apart: of a page from a slot on, or of a hole.
struct RowRun {
  std::int64_t page, slot, count;
};

/// The runs that rows [begin, end) are, of which there is at least one. Returns their number, at most end - begin.
TILEWISE_INLINE int find_runs(const RowSource& source, std::int64_t begin, std::int64_t end, RowRun* runs) {
  if (source.block_table == nullptr) {
    *runs = {0, begin, end - begin};
    return 1;
  }
  int found = 0;
  for_each_page(source, begin, end, [&](std::int64_t slot, std::int64_t count, std::int64_t page) {
    runs[found++] = {page, slot, count};
  });
  return found;
}

/// row[i]: where the runs' rows lie, which are `hole`, zeros, in holes. Lanes only keeps each instruction set's copy in
/// its own object file.
template <class Lanes, class Element>
TILEWISE_INLINE void locate_rows(const RowSource& source, const RowRun* runs, int run_count, const void* hole,
                                 const void** row) {
  for (const RowRun* run = runs; run < runs + run_count; row += run++->count) {
    if (run->page < 0) {
      for (std::int64_t i = 0; i < run->count; ++i) row[i] = hole;
      continue;
    }
    const std::int64_t stride = source.rows.stride;
    const auto* first =
        static_cast<const Element*>(source.rows.data) + run->page * source.page_stride + run->slot * stride;
    for (std::int64_t i = 0; i < run->count; ++i) row[i] = first + i * stride;
  }
}

/// Where the first row's scale of a run lies, which is no hole.
TILEWISE_INLINE const float* first_scale(const RowSource& source, const RowRun& run) {
  return source.scales + run.page * source.scale_page_stride + run.slot * source.scale_stride;
}

/// Asks for the scales of the runs' rows, where there are some.
template <class Lanes>
TILEWISE_INLINE void ask_for_scales(const RowSource& source, const RowRun* runs, int run_count) {
  if (source.scales == nullptr) return;
  constexpr std::int64_t kLine = 64 / sizeof(float);
  const std::int64_t step = source.scale_stride == 1 ? kLine : 1;
  for (const RowRun* run = runs; run < runs + run_count; ++run) {
    if (run->page < 0) continue;
    const float* first = first_scale(source, *run);
    for (std::int64_t i = 0; i < run->count; i += step) __builtin_prefetch(first + i * source.scale_stride);
    __builtin_prefetch(first + (run->count - 1) * source.scale_stride);
  }
}

/// scale[i]: of the runs' rows, which have some; 1 in holes.
template <class Lanes>
TILEWISE_INLINE void load_scales(const RowSource& source, const RowRun* runs, int run_count, float* scale) {
  for (const RowRun* run = runs; run < runs + run_count; scale += run++->count) {
    if (run->page < 0) {
      for (std::int64_t i = 0; i < run->count; ++i) scale[i] = 1;
      continue;
    }
    const float* first = first_scale(source, *run);
    if (source.scale_stride == 1) {
      for (std::int64_t i = 0; i < run->count; ++i) scale[i] = first[i];
    } else {
      for (std::int64_t i = 0; i < run->count; ++i) scale[i] = first[i * source.scale_stride];
    }
  }
}

/// A row of int8 times its scale.
template <class Lanes>
TILEWISE_INLINE void widen_scaled(const std::int8_t* row, float scale, int width, float* floats) {
  const auto scales = Lanes::broadcast(scale);
  int column = 0;
  for (; column + Lanes::kWidth <= width; column += Lanes::kWidth) {
    Lanes::store(floats + column, Lanes::mul(Lanes::load(row + column), scales));
  }
  for (; column < width; ++column) floats[column] = scale * static_cast<float>(row[column]);
}

/// Floats that rows_of needs for `count` rows of `width` elements stored as that dtype. Of int8 it makes float32.
TILEWISE_INLINE std::int64_t staged_floats(std::int64_t count, int width, DType dtype) {
  const bool is_half = dtype == DType::bfloat16 || dtype == DType::float16;
  const std::int64_t floats = is_half ? (count * width + 1) / 2 : count * width;
  return (floats + 15) / 16 * 16;
}

/// Rows [begin, begin + count) as rows of one tensor, of which they are [*first, *first + count): the source's own
/// where they lie one stride apart and have no scales, else copies in `staged`, dequantised to float32 or element for
/// element. Packing then sees the same numbers wherever they came from.
template <class Lanes>
Rows rows_of(const RowSource& source, std::int64_t begin, int count, int width, float* staged, std::int64_t* first) {
  if (source.block_table == nullptr && source.scales == nullptr) {
    *first = begin;
    return source.rows;
  }
  *first = 0;
  if (source.scales != nullptr) {
    float* to = staged;
    const auto widen = [&](const std::int8_t* row, const float* scale, std::int64_t rows) {
      for (std::int64_t i = 0; i < rows; ++i, to += width) {
        widen_scaled<Lanes>(row + i * source.rows.stride, scale[i * source.scale_stride], width, to);
      }
    };
    const auto* data = static_cast<const std::int8_t*>(source.rows.data);
    if (source.block_table == nullptr) {
      widen(data + begin * source.rows.stride, source.scales + begin * source.scale_stride, count);
    } else {
      for_each_page(source, begin, begin + count, [&](std::int64_t slot, std::int64_t rows, std::int64_t page) {
        if (page >= 0) {
          return widen(data + page * source.page_stride + slot * source.rows.stride,
                       source.scales + page * source.scale_page_stride + slot * source.scale_stride, rows);
        }
        for (std::int64_t i = 0; i < rows * width; ++i) *to++ = 0;
      });
    }
    return {staged, width, DType::float32};
  }
  const std::int64_t element = source.rows.dtype == DType::float32 ? 4 : 2, row_bytes = width * element;
  const auto* data = static_cast<const char*>(source.rows.data);
  auto* to = reinterpret_cast<char*>(staged);
  for_each_page(source, begin, begin + count, [&](std::int64_t slot, std::int64_t rows, std::int64_t page) {
    const char* from = data + (page * source.page_stride + slot * source.rows.stride) * element;
    for (std::int64_t i = 0; i < rows; ++i, from += source.rows.stride * element, to += row_bytes) {
      if (page >= 0) {
        __builtin_memcpy(to, from, static_cast<std::size_t>(row_bytes));
      } else {
        __builtin_memset(to, 0, static_cast<std::size_t>(row_bytes));
      }
    }
  });
  return {staged, width, source.rows.dtype};
}

}  // namespace tilewise::cpu
