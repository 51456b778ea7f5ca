// What operator new gives, counted in binaries that tests/counted_allocations.cc is linked into.
#pragma once

#include <atomic>
#include <cstdint>

namespace tilewise {

extern std::atomic<std::int64_t> allocations;
extern std::atomic<std::int64_t> failing_allocation;  ///< The number of the one that throws; -1: none.
extern std::atomic<std::int64_t> live_bytes;          ///< As malloc rounds them up.
extern std::atomic<std::int64_t> peak_bytes;          ///< The most that were live; may be set to what is.

}  // namespace tilewise
