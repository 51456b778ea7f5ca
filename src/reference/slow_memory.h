// The slow memory that standard attention's steps hand their matrices over in.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "reference/matrix.h"
#include "tilewise/reference.h"

namespace tilewise::reference {

/// Counts what steps read and write, and rounds what they write to the precision's stored numbers. Numbers of rows (lse
/// and its gradient) are stored as Real.
template <class Precision>
class SlowMemory {
 public:
  using Real = typename Precision::Real;

  const Matrix<Real>& read(const Matrix<Real>& matrix) {
    traffic_.bytes_read += matrix.rows() * matrix.columns() * Precision::kStoredBytes;
    return matrix;
  }

  Matrix<Real> write(Matrix<Real> matrix) {
    for (Real& value : matrix.values()) value = Precision::stored(value);
    traffic_.bytes_written += matrix.rows() * matrix.columns() * Precision::kStoredBytes;
    return matrix;
  }

  const std::vector<Real>& read(const std::vector<Real>& numbers) {
    traffic_.bytes_read += static_cast<std::int64_t>(numbers.size() * sizeof(Real));
    return numbers;
  }

  std::vector<Real> write(std::vector<Real> numbers) {
    traffic_.bytes_written += static_cast<std::int64_t>(numbers.size() * sizeof(Real));
    return numbers;
  }

  const StandardTraffic& traffic() const { return traffic_; }

 private:
  StandardTraffic traffic_;
};

}  // namespace tilewise::reference
