// PyTorch's threads as an executor. PyTorch's own team of OpenMP threads spins for a while behind each of its parallel
// regions, on the cores that a pool of ours would run on; a call in its midst is faster on that very team.
#pragma once

#include "tilewise/executor.h"

namespace tilewise::python {

/// The executor of the OpenMP team that this process's libraries share, with as many workers as OpenMP would take for a
/// parallel region of the calling thread (torch.set_num_threads); null where no OpenMP library is loaded. Lives as long
/// as the process.
Executor* openmp_executor();

/// Runs everything on the thread that calls: for problems so small that waking another one would take longer.
Executor& calling_thread();

}  // namespace tilewise::python
