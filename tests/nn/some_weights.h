// Random matrices of every kind of weight, and what they hold, read by io/dequantize.h, which knows nothing of panels.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/half.h"
#include "io/dequantize.h"
#include "nn/weights.h"

namespace tilewise::nn {

inline constexpr WeightKind kQuantisedKinds[] = {WeightKind::q4_0, WeightKind::q4_1, WeightKind::q5_0,
                                                 WeightKind::q5_1, WeightKind::q8_0, WeightKind::q4_k,
                                                 WeightKind::q5_k, WeightKind::q6_k};

inline io::Storage storage_of(WeightKind kind) {
  switch (kind) {
    case WeightKind::float32: return io::Storage::float32;
    case WeightKind::float16: return io::Storage::float16;
    case WeightKind::bfloat16: return io::Storage::bfloat16;
    case WeightKind::q4_0: return io::Storage::q4_0;
    case WeightKind::q4_1: return io::Storage::q4_1;
    case WeightKind::q5_0: return io::Storage::q5_0;
    case WeightKind::q5_1: return io::Storage::q5_1;
    case WeightKind::q8_0: return io::Storage::q8_0;
    case WeightKind::q4_k: return io::Storage::q4_k;
    case WeightKind::q5_k: return io::Storage::q5_k;
    case WeightKind::q6_k: return io::Storage::q6_k;
  }
  return io::Storage::float32;
}

inline bool has_minimum(WeightKind kind) {
  return kind == WeightKind::q4_1 || kind == WeightKind::q5_1 || kind == WeightKind::q4_k || kind == WeightKind::q5_k;
}

inline bool is_nested(WeightKind kind) { return block_size(kind).elements == 256; }

/// Where a block's float16 scale is, and its minimum.
inline std::int64_t scale_offset(WeightKind kind) { return kind == WeightKind::q6_k ? 208 : 0; }

inline void set_factors(WeightKind kind, std::byte* block, Float16 scale, Float16 minimum) {
  std::memcpy(block + scale_offset(kind), &scale, 2);
  if (has_minimum(kind)) std::memcpy(block + 2, &minimum, 2);
}

inline std::int64_t stored_bytes(WeightKind kind, std::int64_t elements) {
  return elements / block_size(kind).elements * block_size(kind).bytes;
}

/// Any bits at all.
inline std::vector<std::byte> random_blocks(WeightKind kind, std::int64_t elements, std::mt19937& random) {
  std::vector<std::byte> stored(static_cast<std::size_t>(stored_bytes(kind, elements)));
  for (std::byte& byte : stored) byte = static_cast<std::byte>(random());
  return stored;
}

/// Scales like those of real weights; all integers occur.
inline std::vector<std::byte> some_weights(WeightKind kind, std::int64_t elements, std::mt19937& random) {
  std::vector<std::byte> stored = random_blocks(kind, elements, random);
  std::normal_distribution<float> normal(0, is_nested(kind) ? 0.002F : 0.05F);
  for (std::int64_t b = 0; b < elements / block_size(kind).elements; ++b) {
    const Float16 scale{normal(random)}, minimum{normal(random)};
    set_factors(kind, stored.data() + b * block_size(kind).bytes, scale, minimum);
  }
  return stored;
}

/// 32 weights: value i is integers[i] * scales[i] + minimum.
struct ReadBlock {
  int integers[32];
  float scales[32];
  float minimum;
};

/// Block b of 32 of those stored. Integers and factors are told apart by dequantising copies whose other parts are 0
/// or 1.
inline ReadBlock read_block(WeightKind kind, const std::byte* stored, std::int64_t b) {
  const BlockSize size = block_size(kind);
  const std::byte* block = stored + 32 * b / size.elements * size.bytes;
  const std::int64_t first = 32 * b % size.elements;
  const auto with = [&](float scale, float minimum, bool ones) {
    std::vector<std::byte> copy(block, block + size.bytes);
    set_factors(kind, copy.data(), Float16{scale}, Float16{minimum});
    if (ones) {
      const auto fill = [&](int from, int to, int byte) {
        std::memset(copy.data() + from, byte, std::size_t(to - from));
      };
      if (kind == WeightKind::q4_k) fill(16, 144, 0x11);
      if (kind == WeightKind::q5_k) fill(16, 48, 0), fill(48, 176, 0x11);
      if (kind == WeightKind::q6_k) fill(0, 128, 0x11), fill(128, 192, 0);
    }
    std::vector<float> values(static_cast<std::size_t>(size.elements));
    io::dequantize(storage_of(kind), copy.data(), size.elements, values.data());
    return std::vector<float>(values.begin() + first, values.begin() + first + 32);
  };
  const auto half_at = [&](std::int64_t offset) {
    Float16 half;
    std::memcpy(&half, block + offset, 2);
    return static_cast<float>(half);
  };
  const float scale = half_at(scale_offset(kind));
  const std::vector<float> scaled = with(1, 0, false);
  ReadBlock read{};
  if (!is_nested(kind)) {
    for (int i = 0; i < 32; ++i) {
      read.integers[i] = static_cast<int>(scaled[std::size_t(i)]);
      read.scales[i] = scale;
    }
    read.minimum = has_minimum(kind) ? half_at(2) : 0;
    return read;
  }
  const std::vector<float> ones = with(1, 0, true);
  for (int i = 0; i < 32; ++i) {
    const float step = ones[std::size_t(i)] / (kind == WeightKind::q6_k ? -31.0F : 1.0F);
    read.integers[i] = step == 0 ? 0 : static_cast<int>(scaled[std::size_t(i)] / step);
    read.scales[i] = scale * step;
  }
  if (has_minimum(kind)) read.minimum = half_at(2) * with(0, 1, false)[0];
  return read;
}

}  // namespace tilewise::nn
