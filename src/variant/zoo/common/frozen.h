// Frozen tables from the lists that a named variant is given or computes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tilewise/variant.h"

namespace tilewise::zoo {

/// values: [n]
inline Table frozen(std::string name, const std::vector<std::int32_t>& values) {
  return Table::frozen(std::move(name),
                       ConstTensor(values.data(), DType::int32, {static_cast<std::int64_t>(values.size())}));
}

/// values: [n]
inline Table frozen(std::string name, const std::vector<float>& values) {
  return Table::frozen(std::move(name),
                       ConstTensor(values.data(), DType::float32, {static_cast<std::int64_t>(values.size())}));
}

/// values: [rows, columns], row-major, each 0 or 1
inline Table frozen_map(std::string name, const std::vector<std::uint8_t>& values, std::int64_t rows,
                        std::int64_t columns) {
  return Table::frozen(std::move(name), ConstTensor(values.data(), DType::boolean, {rows, columns}));
}

/// The number of the list's part that each element of the whole belongs to: lengths [2, 3] give [0, 0, 1, 1, 1].
inline std::vector<std::int32_t> parts_of(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> parts;
  for (std::size_t part = 0; part < lengths.size(); ++part) {
    parts.insert(parts.end(), static_cast<std::size_t>(lengths[part]), static_cast<std::int32_t>(part));
  }
  return parts;
}

}  // namespace tilewise::zoo
