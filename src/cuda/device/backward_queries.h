// What the backward pass does to each query before the tiles and after them.
#pragma once

#include "arguments.h"
#include "element.h"
#include "gradients.h"
#include "query_sums.h"
#include "softmax.h"

namespace tilewise::cuda {

/// What the backward pass needs of each query, a warp to a query: reference and delta; and zeros for the sums of d_q,
/// also of the queries that fill the last tile.
template <class Config, class Variant>
__device__ inline void prepare_backward(const BackwardArguments& a, const typename Variant::Arguments& variant) {
  using Element = typename Config::Element;
  const int query = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  const long long head_number = static_cast<long long>(blockIdx.z) * a.h_q + head;
  using Sums = QuerySums<Config::kHeadQk>;
  if (a.d_q.data != nullptr && query < Sums::room(shape.queries)) {
    float* const sums = Sums::of_head(a.d_q_sums, head_number, a.s_q).first + query * Config::kHeadQk;
    for (int part = 0; part < a.d_q_parts; ++part) {
      for (int column = 4 * lane; column < Config::kHeadQk; column += 128)
        *reinterpret_cast<float4*>(sums + part * a.d_q_part + column) = make_float4(0, 0, 0, 0);
    }
  }
  if (query >= shape.queries) return;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  const auto at = [&](const TensorView& view) { return blockIdx.z * view.batch + head * view.head + row * view.row; };
  const auto* o = static_cast<const Element*>(a.o.data) + at(a.o);
  const auto* d_o = static_cast<const Element*>(a.d_o.data) + at(a.d_o);
  float sum = 0;
  static_assert(Config::kHeadQk % 4 == 0 && Config::kHeadV % 4 == 0);
  for (int column = 4 * lane; column < Config::kHeadV; column += 128) {
    float x[4], y[4];
    load_four<Config::kAligned>(o + column, x);
    load_four<Config::kAligned>(d_o + column, y);
    sum += (x[0] * y[0] + x[1] * y[1]) + (x[2] * y[2] + x[3] * y[3]);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  const long long place = head_number * a.s_q + query;
  if (lane == 0) {
    const float lse = static_cast<const float*>(a.lse.data)[at(a.lse)];
    const float d_lse = a.d_lse.data != nullptr ? static_cast<const float*>(a.d_lse.data)[at(a.d_lse)] : 0;
    a.reference[place] = lse == -infinity() ? infinity() : lse * kLog2E;
    a.delta[place] = sum - d_lse;
    if constexpr (Config::kHasGradients && Variant::kHasSink)
      add_sink_gradients<Variant>(a, variant, blockIdx.z, head, lse, sum - d_lse);
  }
}

/// Rounds the sums of d_q, their parts added up in order and scaled, a warp to 16 queries.
template <class Config>
__device__ inline void finish_backward(const BackwardArguments& a) {
  using Element = typename Config::Element;
  using Sums = QuerySums<Config::kHeadQk>;
  const int head = blockIdx.y, lane = threadIdx.x % 32;
  const int first_query = (blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * Sums::kRows;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  if (first_query >= shape.queries) return;
  const Sums sums = Sums::of_head(a.d_q_sums, static_cast<long long>(blockIdx.z) * a.h_q + head, a.s_q);
  // Of two lanes side by side the even one takes row g of the block, the odd one row g + 8: four columns each.
  const bool is_odd = lane % 2 != 0;
  const int query = first_query + lane / 4 + (is_odd ? 8 : 0), first_column = lane % 4 / 2 * 4;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  auto* d_q = static_cast<Element*>(a.d_q.data) + blockIdx.z * a.d_q.batch + head * a.d_q.head + row * a.d_q.row;
  for (int column = 0; column < Config::kHeadQk; column += 8) {
    float x[4] = {0, 0, 0, 0};
    const float* const from = sums.place(first_query, column, lane);
    for (int part = 0; part < a.d_q_parts; ++part) Sums::read(from + part * a.d_q_part, x);
    const float low = __shfl_xor_sync(~0u, is_odd ? x[0] : x[2], 1),
                high = __shfl_xor_sync(~0u, is_odd ? x[1] : x[3], 1);
    if (query >= shape.queries) continue;
    const float values[4] = {(is_odd ? low : x[0]) * a.scale, (is_odd ? high : x[1]) * a.scale,
                             (is_odd ? x[2] : low) * a.scale, (is_odd ? x[3] : high) * a.scale};
    store_four<Config::kAligned>(d_q + column + first_column, values);
  }
}

}  // namespace tilewise::cuda
