// Storage types of the kernels' inputs and outputs; arithmetic is float32 whatever the storage.
#pragma once

#include <cstdint>

namespace tilewise::cpu {

struct BFloat16 {
  std::uint16_t bits;
};

struct Float16 {
  std::uint16_t bits;
};

}  // namespace tilewise::cpu
