// What a call writes has memory of its own.
#pragma once

#include "tilewise/arguments.h"

namespace tilewise::variant {

/// Expects that no output shares memory with another or with what the call reads. Throws Error(invalid_argument) naming
/// both. Rows of no sequence count as the others.
void check_own_memory(const ForwardInputs& inputs, const ForwardOutputs& outputs);
void check_own_memory(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs);

}  // namespace tilewise::variant
