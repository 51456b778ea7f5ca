// A machine with a small fast memory and a large slow one that counts what runs on it (tilewise::LadderCounts says
// exactly what). Arithmetic takes spans of fast memory; only load and store reach slow memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tilewise/softmax_ladder.h"

namespace tilewise::reference {

/// A matrix in slow memory. Its elements are reached through Machine::load and Machine::store.
struct SlowMatrix {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<float> values;  // [rows, columns]
};

class Tile;

class Machine {
 public:
  /// Rows [first, first + count) of `matrix`, copied to fast memory.
  Tile load(const SlowMatrix& matrix, std::int64_t first, std::int64_t count);

  /// Copies `row` [columns] to row `index` of `matrix`.
  void store(SlowMatrix& matrix, std::int64_t index, std::span<const float> row);

  /// a . b, summed from left to right.
  float dot(std::span<const float> a, std::span<const float> b);

  /// sum += weight * addend, element by element.
  void add_scaled(std::span<float> sum, float weight, std::span<const float> addend);

  /// values *= factor, element by element.
  void scale(std::span<float> values, float factor);

  /// values /= divisor, element by element.
  void divide(std::span<float> values, float divisor);

  float exp(float x);

  const LadderCounts& counts() const { return counts_; }

 private:
  friend class Tile;
  LadderCounts counts_;
  std::int64_t held_ = 0;  // bytes of all living tiles
};

/// Numbers in fast memory, [rows, columns], zero at first. They take part in the count of bytes held while it lives.
class Tile {
 public:
  Tile(Machine& machine, std::int64_t rows, std::int64_t columns);
  ~Tile();
  Tile(Tile&& other) noexcept;
  Tile& operator=(Tile&&) = delete;

  std::int64_t rows() const { return rows_; }
  std::span<float> row(std::int64_t index) {
    return std::span(values_).subspan(static_cast<std::size_t>(index * columns_), static_cast<std::size_t>(columns_));
  }
  std::span<const float> row(std::int64_t index) const {
    return std::span(values_).subspan(static_cast<std::size_t>(index * columns_), static_cast<std::size_t>(columns_));
  }

 private:
  Machine* machine_;
  std::int64_t rows_;
  std::int64_t columns_;
  std::vector<float> values_;  // [rows, columns]; empty once moved from
};

}  // namespace tilewise::reference
