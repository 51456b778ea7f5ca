#include "tilewise/float8.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/check_tensor.h"
#include "core/element.h"
#include "core/fail.h"
#include "core/float8.h"
#include "tilewise/arguments.h"

namespace tilewise {
namespace {

/// The same elements as [b, h, rows, d].
template <class Pointer>
BasicTensor<Pointer> with_batch(const BasicTensor<Pointer>& tensor) {
  if (tensor.rank == 4) return tensor;
  BasicTensor<Pointer> padded = tensor;
  padded.rank = 4;
  for (std::size_t axis = 3; axis > 0; --axis) {
    padded.extents[axis] = tensor.extents[axis - 1];
    padded.strides[axis] = tensor.strides[axis - 1];
  }
  padded.extents[0] = 1;
  padded.strides[0] = 0;
  return padded;
}

void check(const ConstTensor& values, const ConstTensor& codes, const ConstTensor& scales) {
  if (values.rank != 3 && values.rank != 4)
    fail_argument("values has rank {}; expected 4, [b, h, s, d], or 3, [h, tokens, d]", values.rank);
  check_floating("values", values);
  check_memory("values", values);
  const auto rank = static_cast<std::size_t>(values.rank);
  check_extents("codes", codes, {values.extents.data(), rank}, "as values");
  check_memory("codes", codes);
  if (codes.dtype != DType::float8_e4m3)
    fail_argument("codes has dtype {}; expected float8_e4m3", to_string(codes.dtype));
  const std::int64_t heads = values.extents[rank - 3], rows = values.extents[rank - 2];
  if (scales.rank == 1) {
    check_extents("scales", scales, std::array{heads}, "one for each head of values");
  } else {
    if (values.rank == 3) fail_argument("scales has rank {}; expected 1, [h], as values is packed", scales.rank);
    check_extents("scales", scales, std::array{values.extents[0], heads, (rows + kScaleRows - 1) / kScaleRows},
                  "one for each block of rows of values");
  }
  check_elements("scales", scales);
  if (scales.dtype != DType::float32) fail_argument("scales has dtype {}; expected float32", to_string(scales.dtype));
}

/// Rows [begin, end) of a head.
struct Rows {
  std::int64_t batch, head, begin, end;
};

/// Calls use(row, column) for all elements of `rows`.
template <class Use>
void for_each(const Rows& rows, std::int64_t columns, const Use& use) {
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) use(row, column);
  }
}

}  // namespace

void quantize_float8(const ConstTensor& given, const Tensor& to, const Tensor& scales) {
  check(given, to, scales);
  const ConstTensor values = with_batch(given);
  const Tensor codes = with_batch(to);
  const auto [b, heads, length, columns] = values.extents;
  // Rows of a group, of which one scale may have several: a head's of all sequences.
  struct Group {
    Rows rows;
    std::size_t scale;
  };
  std::vector<Group> groups;
  const bool of_heads = scales.rank == 1;
  const std::int64_t blocks = of_heads ? 1 : scales.extents[2], step = of_heads ? length : kScaleRows;
  for (std::int64_t i = 0; i < b; ++i) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t scale = of_heads ? h : (i * heads + h) * blocks + block;
        groups.push_back({{i, h, block * step, std::min((block + 1) * step, length)}, static_cast<std::size_t>(scale)});
      }
    }
  }
  const auto value_at = [&](const Rows& rows, std::int64_t row, std::int64_t column) {
    return load_real(element_at(values, rows.batch, rows.head, row, column), values.dtype);
  };
  std::vector<double> largest(static_cast<std::size_t>(scales.elements()));
  for (const auto& [rows, scale] : groups) {
    for_each(rows, columns, [&, at = scale, in = rows](std::int64_t row, std::int64_t column) {
      const double value = value_at(in, row, column);
      if (!std::isfinite(value)) {
        fail_argument("values[{}, {}, {}, {}] is {}; expected finite numbers", in.batch, in.head, row, column, value);
      }
      largest[at] = std::max(largest[at], std::abs(value));
    });
  }
  const auto scale_of = [&](std::size_t at) {
    const auto scale = static_cast<float>(largest[at] / Float8E4m3::kLargest);
    return scale > 0 ? scale : 1.0f;
  };
  for (const auto& [rows, scale] : groups) {
    const float one = scale_of(scale);
    for_each(rows, columns, [&, in = rows](std::int64_t row, std::int64_t column) {
      *static_cast<Float8E4m3*>(element_at(codes, in.batch, in.head, row, column)) =
          Float8E4m3(value_at(in, row, column) / one);
    });
    void* const to_scale =
        of_heads ? element_at(scales, rows.head) : element_at(scales, rows.batch, rows.head, rows.begin / kScaleRows);
    store_real(to_scale, DType::float32, one);
  }
}

}  // namespace tilewise
