#include "reference/slow_problem.h"

#include "core/element.h"
#include "core/fail.h"

namespace tilewise::reference {
namespace {

void check_matrix(const char* name, const ConstTensor& tensor) {
  if (tensor.dtype != DType::float32) {
    fail_argument("{} has dtype {}; the softmax ladder takes float32", name, to_string(tensor.dtype));
  }
  if (tensor.rank != 2) fail_argument("{} has rank {}; the softmax ladder takes matrices (rank 2)", name, tensor.rank);
}

void check(const LadderProblem& problem) {
  const auto& [q, k, v] = problem;
  check_matrix("q", q);
  check_matrix("k", k);
  check_matrix("v", v);
  if (q.extents[1] != k.extents[1]) {
    fail_argument("q has {} columns and k has {}; expected d_qk of both", q.extents[1], k.extents[1]);
  }
  if (k.extents[0] != v.extents[0]) {
    fail_argument("k has {} rows and v has {}; expected s_kv of both", k.extents[0], v.extents[0]);
  }
}

SlowMatrix slow_copy(const ConstTensor& tensor) {
  SlowMatrix matrix{tensor.extents[0], tensor.extents[1], {}};
  matrix.values.reserve(static_cast<std::size_t>(tensor.elements()));
  for (std::int64_t row = 0; row < matrix.rows; ++row) {
    for (std::int64_t column = 0; column < matrix.columns; ++column) {
      matrix.values.push_back(static_cast<float>(load_real(element_at(tensor, row, column), DType::float32)));
    }
  }
  return matrix;
}

}  // namespace

SlowProblem to_slow_memory(const LadderProblem& problem) {
  check(problem);
  SlowMatrix o{problem.q.extents[0], problem.v.extents[1], {}};
  o.values.resize(static_cast<std::size_t>(o.rows * o.columns));
  return {slow_copy(problem.q), slow_copy(problem.k), slow_copy(problem.v), std::move(o)};
}

}  // namespace tilewise::reference
