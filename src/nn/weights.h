// What a model's matrices are stored in, as files hold them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tilewise::nn {

/// Floats, and ggml's blocks of quantised numbers (their layouts: io/storage.h).
enum class WeightKind : std::uint8_t {
  float32,
  float16,
  bfloat16,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k,
};

inline constexpr int kWeightKinds = 11;

/// Elements of a block (1, 32 or 256), and its bytes.
struct BlockSize {
  std::int64_t elements;
  std::int64_t bytes;
};

BlockSize block_size(WeightKind kind);

/// "float32", "q4_1"
const char* to_string(WeightKind kind);

/// A matrix as a file holds it; unaligned.
struct WeightMatrix {
  WeightKind kind = WeightKind::float32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;           // a multiple of the block's elements
  const std::byte* stored = nullptr;  // [rows, columns / block's elements] blocks
};

}  // namespace tilewise::nn
