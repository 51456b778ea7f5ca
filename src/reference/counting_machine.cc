#include "reference/counting_machine.h"

#include <algorithm>
#include <cmath>

namespace tilewise::reference {
namespace {

template <class Numbers>
std::int64_t bytes_of(const Numbers& numbers) {
  return static_cast<std::int64_t>(numbers.size() * sizeof(float));
}

}  // namespace

Tile Machine::load(const SlowMatrix& matrix, std::int64_t first, std::int64_t count) {
  Tile tile(*this, count, matrix.columns);
  for (std::int64_t row = 0; row < count; ++row) {
    std::copy_n(matrix.values.begin() + (first + row) * matrix.columns, matrix.columns, tile.row(row).begin());
    counts_.bytes_read += bytes_of(tile.row(row));
  }
  return tile;
}

void Machine::store(SlowMatrix& matrix, std::int64_t index, std::span<const float> row) {
  std::copy(row.begin(), row.end(), matrix.values.begin() + index * matrix.columns);
  counts_.bytes_written += bytes_of(row);
}

float Machine::dot(std::span<const float> a, std::span<const float> b) {
  float sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  counts_.multiply_adds += static_cast<std::int64_t>(a.size());
  return sum;
}

void Machine::add_scaled(std::span<float> sum, float weight, std::span<const float> addend) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += weight * addend[i];
  counts_.multiply_adds += static_cast<std::int64_t>(sum.size());
}

void Machine::scale(std::span<float> values, float factor) {
  for (float& value : values) value *= factor;
  counts_.multiply_adds += static_cast<std::int64_t>(values.size());
}

void Machine::divide(std::span<float> values, float divisor) {
  for (float& value : values) value /= divisor;
  counts_.multiply_adds += static_cast<std::int64_t>(values.size());
}

float Machine::exp(float x) {
  ++counts_.exponentials;
  return std::exp(x);
}

Tile::Tile(Machine& machine, std::int64_t rows, std::int64_t columns)
    : machine_(&machine), rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {
  machine.held_ += bytes_of(values_);
  machine.counts_.extra_bytes = std::max(machine.counts_.extra_bytes, machine.held_);
}

Tile::Tile(Tile&& other) noexcept
    : machine_(other.machine_), rows_(other.rows_), columns_(other.columns_), values_(std::move(other.values_)) {
  other.values_.clear();
}

Tile::~Tile() { machine_->held_ -= bytes_of(values_); }

}  // namespace tilewise::reference
