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

/// row[i]: where row begin + i lies. Rows of holes are `hole`, zeros. Lanes only keeps each instruction set's copy in
/// its own object file.
template <class Lanes, class Element>
TILEWISE_INLINE void locate_rows(const RowSource& source, std::int64_t begin, std::int64_t end, const void* hole,
                                 const void** row) {
  const auto* data = static_cast<const Element*>(source.rows.data);
  const std::int64_t stride = source.rows.stride;
  const auto place = [&](const Element* first, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) row[i] = first + i * stride;
    row += count;
  };
  if (source.block_table == nullptr) return place(data + begin * stride, end - begin);
  for_each_page(source, begin, end, [&](std::int64_t slot, std::int64_t count, std::int64_t page) {
    if (page >= 0) return place(data + page * source.page_stride + slot * stride, count);
    for (std::int64_t i = 0; i < count; ++i) *row++ = hole;
  });
}

/// Calls f(first, count) for runs of rows [begin, end) whose scales lie one stride apart; of a hole, whose scales do
/// not matter, first is null. The source has scales.
template <class Lanes, class Function>
TILEWISE_INLINE void for_each_scales(const RowSource& source, std::int64_t begin, std::int64_t end, const Function& f) {
  if (source.block_table == nullptr) return f(source.scales + begin * source.scale_stride, end - begin);
  for_each_page(source, begin, end, [&](std::int64_t slot, std::int64_t count, std::int64_t page) {
    f(page < 0 ? nullptr : source.scales + page * source.scale_page_stride + slot * source.scale_stride, count);
  });
}

/// scale[i]: row begin + i's, 1 of a hole.
template <class Lanes>
void copy_scales(const RowSource& source, std::int64_t begin, std::int64_t end, float* scale) {
  for_each_scales<Lanes>(source, begin, end, [&](const float* first, std::int64_t count) {
    if (first == nullptr) {
      for (std::int64_t i = 0; i < count; ++i) scale[i] = 1;
    } else if (source.scale_stride == 1) {
      __builtin_memcpy(scale, first, static_cast<std::size_t>(count) * sizeof(float));
    } else {
      for (std::int64_t i = 0; i < count; ++i) scale[i] = first[i * source.scale_stride];
    }
    scale += count;
  });
}

/// Asks for what copy_scales is to read.
template <class Lanes>
void prefetch_scales(const RowSource& source, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kOfLine = 16;
  const std::int64_t step =
      source.scale_stride > 0 && source.scale_stride < kOfLine ? kOfLine / source.scale_stride : 1;
  for_each_scales<Lanes>(source, begin, end, [&](const float* first, std::int64_t count) {
    if (first == nullptr) return;
    for (std::int64_t i = 0; i < count; i += step) __builtin_prefetch(first + i * source.scale_stride);
    __builtin_prefetch(first + (count - 1) * source.scale_stride);
  });
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

/// Floats that rows_of needs for `count` rows of `width` elements.
TILEWISE_INLINE std::int64_t staged_floats(std::int64_t count, int width) { return (count * width + 15) / 16 * 16; }

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
