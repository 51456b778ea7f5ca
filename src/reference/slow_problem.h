// A softmax ladder's problem in the slow memory of a counting machine.
#pragma once

#include "reference/counting_machine.h"
#include "tilewise/softmax_ladder.h"

namespace tilewise::reference {

/// The inputs, and room for the result.
struct SlowProblem {
  SlowMatrix q;  // [s_q, d_qk]
  SlowMatrix k;  // [s_kv, d_qk]
  SlowMatrix v;  // [s_kv, d_v]
  SlowMatrix o;  // [s_q, d_v]
};

/// A copy of the problem. Throws Error(invalid_argument) where its dtypes, ranks or extents do not fit together.
SlowProblem to_slow_memory(const LadderProblem& problem);

}  // namespace tilewise::reference
