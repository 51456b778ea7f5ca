// Standard attention of one head: Algorithm 0.
#pragma once

#include <vector>

#include "reference/slow_memory.h"
#include "reference/standard_steps.h"

namespace tilewise::reference {

/// What lies in slow memory before a head's first step.
template <class Real>
struct HeadInputs {
  Matrix<Real> q;  // [s_q, d_qk]
  Matrix<Real> k;  // [s_kv, d_qk]
  Matrix<Real> v;  // [s_kv, d_v]
};

/// And after its last.
template <class Real>
struct HeadOutputs {
  Matrix<Real> s;         // [s_q, s_kv], q k^T
  Matrix<Real> p;         // [s_q, s_kv], or [s_q, s_kv + 1] with a sink
  Matrix<Real> o;         // [s_q, d_v]
  std::vector<Real> lse;  // [s_q]
  Real max_score;         // as Weights has it
};

template <class Precision, class Real = typename Precision::Real>
HeadOutputs<Real> forward_head(SlowMemory<Precision>& memory, Entries<Real>& entries, const HeadInputs<Real>& in,
                               bool lse_wanted) {
  HeadOutputs<Real> out;
  out.s = memory.write(product_transposed(memory.read(in.q), memory.read(in.k)));

  Weights<Real> weights = weights_of(memory.read(out.s), entries);
  out.max_score = weights.max_score;
  out.p = memory.write(std::move(weights.p));
  if (lse_wanted) out.lse = memory.write(std::move(weights.lse));

  const Matrix<Real> kept = dropped<Precision>(memory.read(out.p), entries, in.v.rows());
  out.o = memory.write(product(kept, memory.read(in.v)));
  return out;
}

}  // namespace tilewise::reference
