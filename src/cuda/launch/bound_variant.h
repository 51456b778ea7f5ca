// A variant's bindings for a launch: the bytes of its Arguments, with the tables on the GPU.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/launch/device_memory.h"
#include "variant/bindings.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// Copies a host's table to the GPU, without gaps, and makes `table` the view of the copy, which `memory` then holds.
/// Waits for it. Throws DriverError.
void move_to_gpu(const std::shared_ptr<const jit::Context>& context, variant::BoundTable& table,
                 std::vector<DeviceMemory>& memory);

/// Bindings of host tables, copied to the GPU once: for frozen tables, and for calls whose tables the host has.
class BoundVariant {
 public:
  /// Throws as variant::bind, and DriverError.
  BoundVariant(std::shared_ptr<const jit::Context> context, const Variant& variant,
               const variant::ArgumentLayout& layout, const Bindings& bindings);

  /// What the kernel takes by value.
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<DeviceMemory> tables_;  // [graph.tables()]
  std::vector<std::byte> bytes_;
};

}  // namespace tilewise::cuda
