// The backward pass of standard attention of one head: Algorithm 3 of the FlashAttention paper's appendix.
#pragma once

#include <optional>
#include <vector>

#include "reference/slow_memory.h"
#include "reference/standard_forward.h"

namespace tilewise::reference {

/// Which of a head's gradients are asked for.
struct Wanted {
  bool d_q = false, d_k = false, d_v = false;
};

template <class Real>
struct HeadGradients {
  Matrix<Real> d_q;  // [s_q, d_qk]
  Matrix<Real> d_k;  // [s_kv, d_qk]
  Matrix<Real> d_v;  // [s_kv, d_v]
};

/// `saved` holds what the forward pass left; d_o is [s_q, d_v], d_lse [s_q] or none. Gradients of tables and parameters
/// gather in `derivatives`.
template <class Precision, class Real = typename Precision::Real>
HeadGradients<Real> backward_head(SlowMemory<Precision>& memory, Entries<Real>& entries, Derivatives<Real>& derivatives,
                                  const HeadInputs<Real>& in, const HeadOutputs<Real>& saved, const Matrix<Real>& d_o,
                                  const std::optional<std::vector<Real>>& d_lse, Wanted wanted) {
  HeadGradients<Real> out;
  const std::int64_t keys = in.k.rows();
  if (wanted.d_v) {
    const Matrix<Real> kept = dropped<Precision>(memory.read(saved.p), entries, keys);
    out.d_v = memory.write(transposed_product(kept, memory.read(d_o)));
  }

  const Matrix<Real> d_dropped = memory.write(product_transposed(memory.read(d_o), memory.read(in.v)));

  const std::vector<Real> no_d_lse(static_cast<std::size_t>(d_o.rows()), 0);
  if (derivatives.reads_scores()) memory.read(saved.s);
  const Matrix<Real> d_s = memory.write(d_scores_of(memory.read(saved.p), saved.s, memory.read(d_dropped),
                                                    d_lse ? memory.read(*d_lse) : no_d_lse, entries, derivatives));

  if (wanted.d_q) out.d_q = memory.write(product(memory.read(d_s), memory.read(in.k)));
  if (wanted.d_k) out.d_k = memory.write(transposed_product(memory.read(d_s), memory.read(in.q)));
  return out;
}

/// The sum of what the query heads of a group leave to their key head.
template <class Precision, class Real = typename Precision::Real>
Matrix<Real> sum_of_group(SlowMemory<Precision>& memory, const std::vector<Matrix<Real>>& of_heads) {
  if (of_heads.size() == 1) return of_heads.front();
  Matrix<Real> sum(of_heads.front().rows(), of_heads.front().columns());
  for (const Matrix<Real>& of_head : of_heads) add_scaled<Real>(sum.values(), 1, memory.read(of_head).values());
  return memory.write(std::move(sum));
}

}  // namespace tilewise::reference
