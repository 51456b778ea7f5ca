#include "io/storage.h"

#include <array>

namespace tilewise::io {

const StorageInfo& info(Storage storage) {
  static constexpr std::array<StorageInfo, 21> kInfos = {{
      {"float64", 1, 8},  {"float32", 1, 4}, {"float16", 1, 2}, {"bfloat16", 1, 2}, {"int64", 1, 8},
      {"int32", 1, 4},    {"int16", 1, 2},   {"int8", 1, 1},    {"uint64", 1, 8},   {"uint32", 1, 4},
      {"uint16", 1, 2},   {"uint8", 1, 1},   {"bool", 1, 1},    {"q4_0", 32, 18},   {"q4_1", 32, 20},
      {"q5_0", 32, 22},   {"q5_1", 32, 24},  {"q8_0", 32, 34},  {"q4_k", 256, 144}, {"q5_k", 256, 176},
      {"q6_k", 256, 210},
  }};
  return kInfos[static_cast<std::size_t>(storage)];
}

std::optional<std::int64_t> bytes_of(Storage storage, std::int64_t elements) {
  const StorageInfo& type = info(storage);
  std::int64_t bytes = 0;
  if (elements < 0 || elements % type.block_elements != 0) return std::nullopt;
  if (__builtin_mul_overflow(elements / type.block_elements, type.block_bytes, &bytes)) return std::nullopt;
  return bytes;
}

std::optional<std::int64_t> product(std::span<const std::int64_t> extents) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : extents) {
    if (extent < 0 || __builtin_mul_overflow(elements, extent, &elements)) return std::nullopt;
  }
  return elements;
}

std::int64_t FileTensor::rows() const {
  std::int64_t rows = 1;
  for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) rows *= shape[axis];
  return rows;
}

}  // namespace tilewise::io
