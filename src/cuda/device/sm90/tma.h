// The copy engine (TMA): boxes of a tensor between global and shared memory, by one thread's instruction.
#pragma once

#include "sm90/barrier.h"
#include "sm90_call.h"

namespace tilewise::cuda::sm90 {

/// A tensor of [b, h, s, d], whose box is 64 columns of some rows, 128 bytes each, swizzled: the place of a chunk of 16
/// bytes in its line is exclusive-ored with the row modulo 8. What lies outside of the tensor becomes zero.
struct Rows {
  const TensorMap* map;
  int batch, head;

  /// Starts the copy of a box; `full` counts its bytes.
  __device__ void start(unsigned to, int column, int row, Barrier full) const {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, "
        "%5}], [%6];" ::"r"(to),
        "l"(map), "r"(column), "r"(row), "r"(head), "r"(batch), "r"(full.address)
        : "memory");
  }

  /// Likewise to the same place of the cluster's first two blocks, whose own barriers count the bytes.
  __device__ void start_for_both(unsigned to, int column, int row, Barrier full) const {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
        "[%1, "
        "{%2, %3, %4, %5}], [%6], %7;" ::"r"(to),
        "l"(map), "r"(column), "r"(row), "r"(head), "r"(batch), "r"(full.address), "h"((unsigned short)3)
        : "memory");
  }

  /// Starts the copy of a box the other way, as one of this thread's group of copies.
  __device__ void start_back(unsigned from, int column, int row) const {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(map),
                 "r"(column), "r"(row), "r"(head), "r"(batch), "r"(from)
                 : "memory");
  }
};

/// What it knows of a tensor, on its way.
__device__ inline void prefetch(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
/// A line of global memory, on its way to the first-level cache.
__device__ inline void prefetch(const int* line) { asm volatile("prefetch.global.L1 [%0];" ::"l"(line) : "memory"); }

/// Closes this thread's group of copies to global memory.
__device__ inline void commit_copies() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until shared memory has been read by all of them.
__device__ inline void wait_for_copies() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

/// Starts the copy of consecutive bytes, a multiple of 16 from a multiple of 16; `full` counts them.
__device__ inline void start_copy(unsigned to, const void* from, int bytes, Barrier full) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(full.address)
               : "memory");
}

}  // namespace tilewise::cuda::sm90
