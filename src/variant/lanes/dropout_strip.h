// Dropout on a tile of weights, with vector lanes along queries: a Philox block decides 16 keys of a query.
//
// This header is included by sources compiled for one instruction set: it declares plain data and no inline function.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace tilewise::variant {

/// Weights and the numbers that decide which of them are kept (core/dropout.h).
struct DropoutStrip {
  float* weights;                        // [keys][stride], entry (key, query) at weights[key * stride + query]
  std::int64_t stride;                   // floats between neighbouring keys, >= queries
  std::int64_t keys, queries;            // extents
  std::uint32_t key_begin, query_begin;  // key_index of row 0, query_index of column 0
  std::uint32_t head_index, offset;      // the counter's third and fourth word
  std::uint32_t key_words[2];            // the seed's low and high half
  std::uint32_t keep_below;              // at most 255
  float scale;                           // of weights that are kept
};

/// Multiplies each weight by `scale` or 0.
using DropoutFunction = void (*)(const DropoutStrip&);

/// Compiled for Isa `I`, whichever processor runs this.
template <Isa I>
DropoutFunction compiled_dropout();
template <>
DropoutFunction compiled_dropout<Isa::avx2>();
template <>
DropoutFunction compiled_dropout<Isa::avx512>();

/// The best one that runs wherever `isa` does; null where there is none: a loop over entries does as well.
DropoutFunction dropout_function(Isa isa);

}  // namespace tilewise::variant
