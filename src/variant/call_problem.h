// The heads and sequences of a call, from its tensors and from what it says of them.
#pragma once

#include <cstdint>
#include <vector>

#include "tilewise/arguments.h"
#include "variant/bindings.h"

namespace tilewise::variant {

/// Heads and sequences of a call whose tensors fit together (check_shapes). Throws Error(invalid_argument) where
/// sequences do not fit the tensors, or name pages that are not there.
void set_problem(const ForwardInputs& inputs, Problem& problem, TableData data);

/// Expects that no two sequences of packed storage share rows, since each would write them.
void check_own_rows(const char* what, const std::vector<Sequence>& sequences, std::int64_t Sequence::*length,
                    std::int64_t Sequence::*first_token);

}  // namespace tilewise::variant
