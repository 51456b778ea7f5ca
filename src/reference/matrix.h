// Matrices and the three products that attention is made of, as plain loops from left to right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tilewise::reference {

template <class Real>
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {}

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::span<Real> row(std::int64_t index) { return {values_.data() + index * columns_, width()}; }
  std::span<const Real> row(std::int64_t index) const { return {values_.data() + index * columns_, width()}; }
  std::vector<Real>& values() { return values_; }
  const std::vector<Real>& values() const { return values_; }

 private:
  std::size_t width() const { return static_cast<std::size_t>(columns_); }
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::vector<Real> values_;  // [rows, columns], zero at first
};

template <class Real>
Real dot(std::span<const Real> a, std::span<const Real> b) {
  Real sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

template <class Real>
void add_scaled(std::span<Real> sum, Real factor, std::span<const Real> addend) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += factor * addend[i];
}

/// a b^T, for a [m, d] and b [n, d].
template <class Real>
Matrix<Real> product_transposed(const Matrix<Real>& a, const Matrix<Real>& b) {
  Matrix<Real> result(a.rows(), b.rows());
  for (std::int64_t i = 0; i < a.rows(); ++i) {
    for (std::int64_t j = 0; j < b.rows(); ++j) result.row(i)[static_cast<std::size_t>(j)] = dot(a.row(i), b.row(j));
  }
  return result;
}

/// a b, for a [m, n] and b [n, d]. An element of a that is exactly 0 adds nothing, even where b holds an infinity or
/// NaN.
template <class Real>
Matrix<Real> product(const Matrix<Real>& a, const Matrix<Real>& b) {
  Matrix<Real> result(a.rows(), b.columns());
  for (std::int64_t i = 0; i < a.rows(); ++i) {
    for (std::int64_t j = 0; j < a.columns(); ++j) {
      const Real factor = a.row(i)[static_cast<std::size_t>(j)];
      if (factor != 0) add_scaled(result.row(i), factor, b.row(j));
    }
  }
  return result;
}

/// a^T b, for a [m, n] and b [m, d]. Zeros as above.
template <class Real>
Matrix<Real> transposed_product(const Matrix<Real>& a, const Matrix<Real>& b) {
  Matrix<Real> result(a.columns(), b.columns());
  for (std::int64_t i = 0; i < a.rows(); ++i) {
    for (std::int64_t j = 0; j < a.columns(); ++j) {
      const Real factor = a.row(i)[static_cast<std::size_t>(j)];
      if (factor != 0) add_scaled(result.row(j), factor, b.row(i));
    }
  }
  return result;
}

}  // namespace tilewise::reference
