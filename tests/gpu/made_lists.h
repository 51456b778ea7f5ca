// Lists of kept tiles for a problem, made on the GPU.
#pragma once

#include <memory>
#include <vector>

#include "cuda/launch/device_memory.h"
#include "cuda/launch/sequences.h"
#include "cuda/launch/tile_lister.h"

namespace tilewise::cuda::testing {

class MadeLists {
 public:
  MadeLists(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context, const Variant& variant,
            const Bindings& bindings, const std::vector<std::byte>& bound, const Problem& problem, ListTile tile,
            bool by_key);

  const TileLists& view() const { return view_; }
  const ListExtent& extent() const { return extent_; }

  /// A list's entries, and the order of rows of a (sequence, head with lists).
  std::vector<int> list(std::int64_t sequence, std::int64_t head, std::int64_t row) const;
  std::vector<int> order(std::int64_t sequence, std::int64_t head) const;
  /// A list's turns, one a tile of the row.
  std::vector<int> turns(std::int64_t sequence, std::int64_t head, std::int64_t row, bool is_longest_first) const;

 private:
  std::shared_ptr<const jit::Context> context_;
  DeviceMemory sequences_, tiles_, count_, order_, turns_;
  ListExtent extent_;
  TileLists view_{};
};

}  // namespace tilewise::cuda::testing
