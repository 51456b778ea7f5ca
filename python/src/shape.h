// What a call's arrays say of the plan that it needs.
#pragma once

#include <cstdint>

#include "tilewise/attention.h"

namespace tilewise::python {

/// The shape that these inputs have. Throws Error(invalid_argument) where q, k or v have too few axes.
PlanShape shape_of(const ForwardInputs& inputs, bool backward);

/// Gives all sequences this position of their first query; where there are none, makes one for each row of the batch.
void set_query_offset(ForwardInputs& inputs, std::int64_t query_offset);

}  // namespace tilewise::python
