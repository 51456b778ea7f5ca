// Calls on a GPU: the stream that a framework works on, and memory from its own allocator.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "arrays.h"
#include "tilewise/attention.h"

namespace tilewise::python {

/// Runs a call of that plan on the stream that the framework of `q`, an array of `object` on a GPU, works on at
/// present. It works in memory of the framework's allocator where that has DLPack's exchange (PyTorch), so that a CUDA
/// graph can capture it. Small calls outside of graphs, and other frameworks' calls, work in memory that this thread
/// keeps for each stream. The interpreter's lock is released meanwhile.
///
/// Throws Error(unsupported) for frameworks whose stream cannot be asked for, and Error(out_of_memory).
void run_on_gpu(nanobind::handle object, const Array& q, const Plan& plan,
                const std::function<void(Workspace& workspace)>& run);

}  // namespace tilewise::python
