// Strips: what the lane reading computes on. One call of a strip operation covers a whole strip or block of a tile.
//
// This header is included by sources compiled for one instruction set: it declares plain data and no inline function.
// On lanes every value takes 32 bits: a real is a float32, a bool an int32 of 0 or -1.
#pragma once

#include <cstdint>

#include "core/isa.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {

/// Where an operation reads an operand, or writes its result: the word of (o, i) is at data + o * outer + i * inner.
struct Strip {
  void* data;          // [outer][inner] words of 32 bits
  std::int64_t outer;  // words from one row to the next; 0 repeats a row, -1 walks back along a diagonal
  std::int64_t inner;  // words from one column to the next: 1, or 0 to repeat one word
};

struct StripCall {
  std::int64_t outer, inner;  // rows and columns
  Strip result;               // inner is 1; may be one of the operands, in place
  const Strip* operands;      // [operation's operands]
};

using StripFunction = void (*)(const StripCall&);

/// to[o * to_stride + i] = from[i * from_stride + o] for o < outer, i < inner, in words; `from` need not be aligned.
using TransposeFunction = void (*)(const void* from, std::int64_t from_stride, std::int64_t outer, std::int64_t inner,
                                   void* to, std::int64_t to_stride);

inline constexpr int kOperations = static_cast<int>(Operations::size);

/// Terms of a conjunction that one pass takes at most.
inline constexpr int kMostKeptTerms = 4;

/// What several operations in one pass make cheaper. Lowering says where each stands for them.
struct FusedOperations {
  StripFunction reciprocal;       // (x) -> 1 / x, at most the largest float in magnitude where x is not 0
  StripFunction tanh_of_product;  // (x, factor) -> tanh(x factor)
  StripFunction settled_tanh;     // (x, factor, y) -> settled y tanh(x factor)
  StripFunction one_less_square;  // (x) -> 1 - x x
  StripFunction add_across;       // (x, y) -> settled x + y; y's neighbours lie along the strip's rows: its outer is 1
  StripFunction scaled_gradient;  // (d, factor) -> d factor, 0 where d is 0
  StripFunction gradient;         // (d, factor, derivative) -> d factor derivative, 0 where d is 0
  /// By the number of terms, and how many of them, the last ones, are inverted: (score, keep, x, y, z, x, y, z, ...) ->
  /// score where `keep` and every x - y < z, or inverted every x - y >= z, else -inf. Ints; along a row x is repeated,
  /// y and z are the same in every row, and a keep that is repeated is a whole vector.
  StripFunction kept[kMostKeptTerms + 1][kMostKeptTerms + 1];
};

/// The operations of one instruction set.
struct StripOperations {
  /// By number and by whether the last operand is real (1) or an int or bool (0); null where no such operands exist.
  StripFunction operation[kOperations][2];
  /// The same on reals, settled in the same pass where the result is real; null elsewhere.
  StripFunction settled[kOperations];
  /// By number of a comparison, of ints: (x, y, keep) -> whether it holds of x and y, and keep; null elsewhere.
  StripFunction holds_and[kOperations];
  /// (score) -> score: clamps a stage's result from below at -2^126; -inf and NaN stay.
  StripFunction settle;
  /// (keep, score) -> score: settles where `keep`, else -inf.
  StripFunction settle_kept;
  /// (word) -> word: spreads a narrower strip, or moves one.
  StripFunction copy;
  FusedOperations fused;
  TransposeFunction transpose;
};

/// Those compiled for Isa `I`, whichever processor runs this.
template <Isa I>
const StripOperations& compiled_strip_operations();
template <>
const StripOperations& compiled_strip_operations<Isa::baseline>();
template <>
const StripOperations& compiled_strip_operations<Isa::avx2>();
template <>
const StripOperations& compiled_strip_operations<Isa::avx512>();

/// The best ones that run wherever `isa` does.
const StripOperations& strip_operations(Isa isa);

}  // namespace tilewise::variant
