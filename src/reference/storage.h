// Between the caller's tensors, of any dtype, strides and storage, and the matrices of one head of one sequence.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/element.h"
#include "reference/matrix.h"
#include "tilewise/arguments.h"

namespace tilewise::reference {

/// The rows of one sequence in a tensor of one side: q's, or k's (arguments.h tells of the kinds of storage).
struct Rows {
  bool packed = false;
  std::int64_t sequence = 0;
  std::int64_t first_token = 0;
  std::int64_t begin = 0;  // rows before it do not exist: never read
  std::int64_t end = 0;
  const std::int32_t* pages = nullptr;  // of paged keys; -1 is a hole, whose rows do not exist
  std::int64_t page_tokens = 0;         // likewise

  bool exists(std::int64_t row) const { return row >= begin && (pages == nullptr || pages[row / page_tokens] >= 0); }
};

/// Where row `row` of a head begins, or, in lse, its element.
template <class Pointer>
Pointer row_at(const BasicTensor<Pointer>& tensor, const Rows& rows, std::int64_t head, std::int64_t row) {
  if (rows.pages != nullptr) {
    return element_at(tensor, rows.pages[row / rows.page_tokens], head, row % rows.page_tokens);
  }
  return rows.packed ? element_at(tensor, head, rows.first_token + row) : element_at(tensor, rows.sequence, head, row);
}

/// What a row's elements are multiplied by: int8 has a scale for each row, float8_e4m3 for each head or block of rows.
inline double scale_of(DType dtype, const std::optional<ConstTensor>& scales, const Rows& rows, std::int64_t head,
                       std::int64_t row) {
  if (!scales) return 1;
  const void* const scale = dtype == DType::int8 ? row_at(*scales, rows, head, row)
                            : scales->rank == 1  ? element_at(*scales, head)
                                                 : element_at(*scales, rows.sequence, head, row / kScaleRows);
  return load_real(scale, scales->dtype);
}

/// A head's matrix [rows.end, last axis], in the precision's stored numbers; 0 in rows that do not exist. Codes come
/// with their scales.
template <class Precision>
Matrix<typename Precision::Real> load(const ConstTensor& tensor, const Rows& rows, std::int64_t head,
                                      const std::optional<ConstTensor>& scales = {}) {
  using Real = typename Precision::Real;
  const std::int64_t columns = tensor.extents[static_cast<std::size_t>(tensor.rank - 1)];
  Matrix<Real> matrix(rows.end, columns);
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    if (!rows.exists(row)) continue;
    const auto* element = static_cast<const char*>(row_at(tensor, rows, head, row));
    const auto scale = static_cast<Real>(scale_of(tensor.dtype, scales, rows, head, row));
    for (Real& value : matrix.row(row)) {
      const auto number =
          static_cast<Real>(is_integer(tensor.dtype) ? static_cast<double>(load_int(element, tensor.dtype))
                                                     : load_real(element, tensor.dtype));
      value = Precision::stored(scale * number);
      element += size_of(tensor.dtype);
    }
  }
  return matrix;
}

/// A head's numbers of rows [rows.end], such as d_lse.
template <class Real>
std::vector<Real> load_numbers(const ConstTensor& tensor, const Rows& rows, std::int64_t head) {
  std::vector<Real> numbers;
  for (std::int64_t row = 0; row < rows.end; ++row) {
    numbers.push_back(static_cast<Real>(load_real(row_at(tensor, rows, head, row), tensor.dtype)));
  }
  return numbers;
}

/// The inverses: every row below rows.end is written, existing or not.
template <class Real>
void store(const Tensor& tensor, const Rows& rows, std::int64_t head, const Matrix<Real>& matrix) {
  for (std::int64_t row = 0; row < rows.end; ++row) {
    auto* element = static_cast<char*>(row_at(tensor, rows, head, row));
    for (Real value : matrix.row(row)) {
      store_real(element, tensor.dtype, value);
      element += size_of(tensor.dtype);
    }
  }
}
template <class Real>
void store_numbers(const Tensor& tensor, const Rows& rows, std::int64_t head, const std::vector<Real>& numbers) {
  for (std::int64_t row = 0; row < rows.end; ++row) {
    store_real(row_at(tensor, rows, head, row), tensor.dtype, numbers[static_cast<std::size_t>(row)]);
  }
}

/// Writes all elements of a tensor of any rank, given in row-major order.
template <class Real>
void store_row_major(const Tensor& tensor, const std::vector<Real>& values) {
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    std::int64_t offset = 0, left = i;
    for (auto axis = static_cast<std::size_t>(tensor.rank); axis-- > 0; left /= tensor.extents[axis]) {
      offset += left % tensor.extents[axis] * tensor.strides[axis];
    }
    store_real(static_cast<char*>(tensor.data) + offset * size_of(tensor.dtype), tensor.dtype,
               values[static_cast<std::size_t>(i)]);
  }
}

}  // namespace tilewise::reference
