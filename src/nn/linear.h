// Products of activations with a model's matrices, whatever these are stored in: y = x w^T + bias.
// docs/decisions/quantised_products.md and docs/decisions/float_products.md have the reasons.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "nn/weights.h"
#include "tilewise/executor.h"

namespace tilewise::nn {

/// How quantised matrices are multiplied; those of floats are multiplied in float32 either way.
enum class Precision : std::uint8_t {
  rounded,  // by activations rounded to 16 bits (nn/quantised.h)
  precise,  // dequantised, in float32
};

/// A matrix of weights [rows, columns], ready to be multiplied. Immutable, cheap to copy, shared between threads.
class Linear {
 public:
  Linear() = default;  // no rows, no columns

  /// Quantised weights are copied into panels (about as many bytes), by the executor's threads. Those of floats stay
  /// where they are and must outlive this. Throws Error(invalid_argument) where rows or columns are negative or the
  /// columns are no whole number of the kind's blocks.
  Linear(const WeightMatrix& stored, Precision precision, Executor& executor = default_executor());

  std::int64_t rows() const;     // outputs
  std::int64_t columns() const;  // inputs
  WeightKind kind() const;

  /// What a product reads of it, in bytes.
  std::int64_t bytes() const;

  /// A row as float32: an embedding's vector. Throws Error(invalid_argument) where there is no such row.
  void read_row(std::int64_t row, float* out) const;  // out [columns]

  struct Stored;
  const Stored* stored() const { return stored_.get(); }

 private:
  std::shared_ptr<const Stored> stored_;
};

/// Rows of activations.
struct Rows {
  const float* data = nullptr;  // [count, columns], rows stride elements apart
  std::int64_t count = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;  // at least columns
};

/// Where one product goes.
struct Product {
  const Linear* weights = nullptr;
  float* y = nullptr;           // [tokens, weights->rows()], rows y_stride elements apart
  std::int64_t y_stride = 0;    // at least weights->rows()
  const float* bias = nullptr;  // [weights->rows()], or null
};

/// Memory of calls; grows to what the largest needs and is then kept. One call at a time.
class LinearScratch {
 public:
  LinearScratch();
  LinearScratch(LinearScratch&&) noexcept;
  LinearScratch& operator=(LinearScratch&&) noexcept;
  ~LinearScratch();

  struct Memory;
  Memory& memory() { return *memory_; }

 private:
  std::unique_ptr<Memory> memory_;
};

/// All products of the same rows, which are rounded once, in one run of the executor: queries, keys and values
/// together, gate and up together. No y may overlap x or another y. Results depend on neither executor nor, with
/// quantised weights and Precision::rounded, on the other rows. Throws Error(invalid_argument) where a matrix has
/// other columns than x, or a stride is too small.
void multiply(const Rows& x, std::span<const Product> products, LinearScratch& scratch,
              Executor& executor = default_executor());

}  // namespace tilewise::nn
