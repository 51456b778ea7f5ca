// New keys and values into the pages of a cache, keys rotated by their positions on the way.
#pragma once

#include "copy.h"
#include "element.h"

namespace tilewise::cuda {

/// One row after the other, a warp to each: (new token, key head, sequence). New token j of a sequence becomes key
/// index keys - queries + j, as if it were a query: its row is that of query j.
///
/// Config has Element, kHeadQk, kHeadV.
template <class Config>
__device__ inline void append_row(const AppendArguments& a) {
  using Element = typename Config::Element;
  const int token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  const int index = shape.keys - shape.queries + token;
  if (token >= shape.queries || index < 0) return;
  const int* const table = a.pages.table + blockIdx.z * a.pages.sequence;
  const long long row = token + (a.tokens_packed ? shape.query_token : 0);
  const auto from = [&](const TensorView& view) {
    return static_cast<const Element*>(view.data) + blockIdx.z * view.batch + head * view.head + row * view.row;
  };
  const auto to = [&](const TensorView& view) -> Element* {
    long long offset = 0;
    if (!PagedRows{a.pages, table, view.batch, view.row}.find(index, offset)) return nullptr;
    return static_cast<Element*>(view.data) + head * view.head + offset;
  };
  Element *const k = to(a.k_pages), *const v = to(a.v_pages);
  if (k == nullptr) return;  // a hole
  const Element *const new_k = from(a.k), *const new_v = from(a.v);
  for (int column = lane; column < Config::kHeadV; column += 32) v[column] = new_v[column];
  for (int column = a.rotary_columns + lane; column < Config::kHeadQk; column += 32) k[column] = new_k[column];
  const double position = shape.key_offset + index;
  for (int pair = lane; 2 * pair < a.rotary_columns; pair += 32) {
    const int first = a.rotary_interleaved ? 2 * pair : pair,
              second = a.rotary_interleaved ? 2 * pair + 1 : pair + a.rotary_columns / 2;
    // In float64: at position 10^5 a float32 angle would be off by 0.004.
    double sine, cosine;
    sincos(position * exp2(a.rotary_log2_base * (2 * pair) / a.rotary_columns), &sine, &cosine);
    const float x = value_of(new_k[first]), y = value_of(new_k[second]);
    const float s = static_cast<float>(sine), c = static_cast<float>(cosine);
    k[first] = element_of(Element{}, x * c - y * s);
    k[second] = element_of(Element{}, y * c + x * s);
  }
}

}  // namespace tilewise::cuda
