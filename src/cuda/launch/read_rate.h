// How fast a GPU reads its memory.
#pragma once

#include <memory>

#include "jit/compiler.h"
#include "jit/context.h"

namespace tilewise::cuda {

/// 10^9 bytes a second: the best of several passes over 8 times the second-level cache, at least 1 GiB. Throws as
/// jit::load_program; DriverError.
double measure_read_gbs(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context);

}  // namespace tilewise::cuda
