// How a file stores a tensor's elements: one by one, or in blocks that share a scale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tilewise::io {

/// GGUF's and safetensors' storage types. The blocks are ggml's (its documentation of GGUF, and ggml-quants.h).
enum class Storage : std::uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  int64,
  int32,
  int16,
  int8,
  uint64,
  uint32,
  uint16,
  uint8,
  boolean,
  q4_0,  ///< 32 elements: scale, 4-bit q - 8
  q4_1,  ///< 32 elements: scale and minimum, 4-bit q
  q5_0,  ///< 32 elements: scale, 5-bit q - 16
  q5_1,  ///< 32 elements: scale and minimum, 5-bit q
  q8_0,  ///< 32 elements: scale, int8 q
  q4_k,  ///< 256 elements: 8 groups, whose 6-bit scales and minima have a scale each; 4-bit q
  q5_k,  ///< 256 elements: likewise, 5-bit q
  q6_k,  ///< 256 elements: 16 groups, whose 8-bit scales have a scale; 6-bit q - 32
};

struct StorageInfo {
  const char* name;             ///< "float32", "q4_1"
  std::int64_t block_elements;  ///< 1 where elements stand alone
  std::int64_t block_bytes;
};

const StorageInfo& info(Storage storage);

/// Bytes that `elements` take; nullopt where they are negative, no whole number of blocks, or more than int64 counts.
std::optional<std::int64_t> bytes_of(Storage storage, std::int64_t elements);

/// The product of extents; nullopt where one is negative or the product is more than int64 counts.
std::optional<std::int64_t> product(std::span<const std::int64_t> extents);

/// A tensor as a file holds it. Views into the file's memory.
struct FileTensor {
  std::string_view name;
  Storage storage = Storage::float32;
  std::vector<std::int64_t> shape{};  // [rank], the contiguous axis last
  std::uint64_t offset = 0;           ///< From the start of the file.
  std::span<const std::byte> bytes{};

  /// Elements of the contiguous axis (1 for rank 0) and how many rows of them there are.
  std::int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  std::int64_t rows() const;
};

}  // namespace tilewise::io
