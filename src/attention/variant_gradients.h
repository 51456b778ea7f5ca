// Gradients of tables and parameters: sums that are the same bits whoever adds up what, in whatever order.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/arena.h"
#include "attention/programs.h"
#include "tilewise/attention.h"
#include "variant/call.h"
#include "variant/lanes/backward_lanes.h"

namespace tilewise::attention {

/// A sum in fixed point, 128 bits wide: float32 numbers within 2^36 of the largest one are added exactly, and 2^67 of
/// them fit.
struct FixedSum {
  std::uint64_t low = 0;
  std::int64_t high = 0;
};

/// One array of gradients: of a table, or of a parameter (an array of one).
struct GradientArray {
  bool is_wanted = false;
  std::int64_t elements = 0;
  std::array<std::int64_t, kMaxRank> extents{};
  std::size_t rank = 0;
  FixedSum* sums = nullptr;  // [elements], or one such list for each worker
  std::int64_t lists = 1;    // 1: shared by the workers, who add atomically
  int exponent = 0;          // numbers lie below 2^exponent
  bool is_direct = false;    // each element belongs to one entry: stored as it comes, without sums
  Tensor gradient{};         // where, then
};

/// A table's or parameter's gradient at the entries of a tile, and where it belongs.
struct GradientTile {
  /// An index: one word for all entries, or for each query, key, diagonal (from the last key, first query on) or entry.
  struct Index {
    variant::Hoist hoist = variant::Hoist::uniform;
    const std::int32_t* words = nullptr;
    std::int64_t stride = 0;  // between keys, at entries
  };
  const float* values = nullptr;  // [keys, stride], entry (key, query) at values[key * stride + query]
  std::int64_t stride = 0;
  std::int64_t keys = 0, queries = 0;
  std::array<Index, kMaxRank> indices{};  // of each axis
};

/// What one worker has seen of the numbers it added to one array.
struct alignas(64) Seen {
  float largest = 0;  // magnitude
  bool is_finite = true;
};

/// The sums of one call. The point is fixed before the numbers are known, by a guess; should the largest number turn
/// out too large for it or too small, everything is added up again with the right one.
class VariantGradients {
 public:
  /// Arrays of all tables and parameters with a gradient in a plan that has a backward pass.
  VariantGradients(const Variant& variant, const PlanShape& shape, const Programs& programs, int workers, Arena& arena);

  /// Notes which gradients a call asks for. Throws Error(invalid_argument) where a table was not planned, or not as
  /// large.
  void start(const Variant& variant, const variant::Call& call, const BackwardOutputs& outputs);

  bool any_wanted() const { return any_wanted_; }
  bool any_summed() const { return any_summed_; }

  /// Guesses that numbers lie below 2^exponent.
  void guess(int exponent);

  void clear();

  bool wants(const variant::EntryGradient& gradient) const { return arrays_[array_of(gradient)].is_wanted; }

  /// Adds a tile of numbers. Those whose indices are the same by their classes (gradient.hoist) are added up in float32
  /// first, in an order that the tile alone determines. Indices are clamped to the extents.
  void add(const variant::EntryGradient& gradient, const GradientTile& tile, int worker);

  /// Whether every exponent was right. Those that were not are set right: everything is to be added again.
  bool settle();

  /// Writes what was asked for.
  void store(const Variant& variant, const BackwardOutputs& outputs) const;

 private:
  std::size_t array_of(const variant::EntryGradient& gradient) const {
    return static_cast<std::size_t>(gradient.slot) + (gradient.is_table ? 0 : tables_);
  }
  /// False where the block cannot be added: it holds no number but 0, or some that are too large.
  bool look_at(std::size_t array, const float* values, std::int64_t rows, std::int64_t columns, std::int64_t stride,
               int worker);
  template <class ElementOf>
  void add_block(std::size_t array, const float* values, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                 int worker, const ElementOf& element_of);
  void store_entries(const variant::EntryGradient& gradient, const GradientTile& tile, const Tensor& to) const;
  double value(std::size_t array, std::int64_t element) const;

  std::vector<GradientArray> arrays_;        // [tables + parameters]
  std::vector<std::int64_t> most_elements_;  // [tables + parameters], planned; -1: not planned
  std::vector<Seen> seen_;                   // [workers][tables + parameters]
  std::size_t tables_ = 0;
  int workers_ = 1;
  bool any_wanted_ = false, any_summed_ = false;
  variant::TransposeFunction transpose_;
};

}  // namespace tilewise::attention
