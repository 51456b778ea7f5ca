// Tensors between two pages that no one may touch, in any layout, filled with NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tilewise/tensor.h"

namespace tilewise::attention::testing {

/// Bytes with a page behind them and one before them whose access ends the process. They lie against the former, or
/// where `at_begin` against the latter. Filled with 0xff: NaN in every floating dtype.
class GuardedBytes {
 public:
  GuardedBytes(std::int64_t bytes, bool at_begin);

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  struct Unmap {
    std::size_t length;  // of the mapping
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Unmap> mapped_;
  std::span<std::byte> bytes_;
};

/// How axes lie in memory. The last one is contiguous in all of them.
enum class Layout : std::uint8_t {
  contiguous,
  heads_inside,  // [b, s, h, d]
  padded,        // with elements of no one behind each row, head and sequence
  reversed,      // negative strides
  shared,        // stride 0 for all axes before the rows: for inputs
};

/// A tensor of attention, [b, heads, rows, columns] or packed [heads, tokens, columns]; `columns` 0 for lse, which has
/// no such axis.
class GuardedTensor {
 public:
  GuardedTensor() : GuardedTensor({0, 0, 0}, 1, DType::float32, Layout::contiguous, false) {}
  GuardedTensor(std::vector<std::int64_t> extents, std::int64_t columns, DType dtype, Layout layout, bool at_begin);

  Tensor tensor() const { return Tensor(first_, dtype_, extents_, strides_); }
  ConstTensor view() const { return tensor(); }

  /// Element `column` of a row; `first_token` counts where the storage is packed.
  double get(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token,
             std::int64_t column = 0) const;
  void set(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token, std::int64_t column,
           double value);

  /// Notes that an element may be written.
  void own(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token, std::int64_t column);

  /// Elements that were written though they were never own()ed.
  std::int64_t touched() const;

 private:
  std::byte* at(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token,
                std::int64_t column) const;

  std::vector<std::int64_t> extents_, strides_;
  DType dtype_ = DType::float32;
  bool has_columns_ = true;
  std::shared_ptr<GuardedBytes> memory_;
  std::byte* first_ = nullptr;
  std::vector<bool> owned_;  // [elements of memory]
};

}  // namespace tilewise::attention::testing
