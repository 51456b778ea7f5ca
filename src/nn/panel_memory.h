// Memory of weights, in large pages where the system has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tilewise::nn {

/// Memory aligned to 64 bytes, uninitialised. Matrices share stretches of 64 MiB, in pages of 2 MiB where the system
/// grants them: a token reads every weight once, and with pages of 4 KiB looking up their addresses, and the hardware's
/// prefetching, which stops at a page's end, cost a fifth to a third of the bandwidth (one core of a Zen 4). A stretch
/// is freed with the last that lies in it. Throws Error(out_of_memory). May be called from several threads.
std::shared_ptr<std::byte> allocate_panels(std::int64_t bytes);

}  // namespace tilewise::nn
