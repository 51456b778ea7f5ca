// What the backward pass does to each query before the tiles and after them.
#pragma once

#include "arguments.h"
#include "element.h"
#include "gradients.h"
#include "softmax.h"

namespace tilewise::cuda {

/// What the backward pass needs of each query, a warp to a query: reference and delta; and zeros for the sums of d_q.
template <class Config, class Variant>
__device__ inline void prepare_backward(const BackwardArguments& a, const typename Variant::Arguments& variant) {
  using Element = typename Config::Element;
  const int query = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  if (query >= shape.queries) return;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  const auto at = [&](const TensorView& view) { return blockIdx.z * view.batch + head * view.head + row * view.row; };
  const auto* o = static_cast<const Element*>(a.o.data) + at(a.o);
  const auto* d_o = static_cast<const Element*>(a.d_o.data) + at(a.d_o);
  float sum = 0;
  for (int column = lane; column < Config::kHeadV; column += 32) sum += value_of(o[column]) * value_of(d_o[column]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  const long long place = (static_cast<long long>(blockIdx.z) * a.h_q + head) * a.s_q + query;
  if (lane == 0) {
    const float lse = static_cast<const float*>(a.lse.data)[at(a.lse)];
    const float d_lse = a.d_lse.data != nullptr ? static_cast<const float*>(a.d_lse.data)[at(a.d_lse)] : 0;
    a.reference[place] = lse == -infinity() ? infinity() : lse * kLog2E;
    a.delta[place] = sum - d_lse;
    if constexpr (Config::kHasGradients && Variant::kHasSink) {
      const auto of_head = Variant::place_of(variant, shape, blockIdx.z, head, head / a.heads_per_kv);
      // The sink is an entry whose value is 0.
      const float weight = exp2_of((Variant::sink_logit(variant, of_head) - lse) * kLog2E);
      GradientAdder adder(a.gradients);
      if (weight > 0) Variant::add_sink_gradients(variant, of_head, -weight * (sum - d_lse), adder);
    }
  }
  if (a.d_q.data == nullptr) return;
  for (int part = 0; part < a.d_q_parts; ++part) {
    float* const sums = a.d_q_sums + part * a.d_q_part + place * Config::kHeadQk;
    for (int column = lane; column < Config::kHeadQk; column += 32) sums[column] = 0;
  }
}

/// Rounds the sums of d_q, their parts added up in order and scaled, a warp to a query.
template <class Config>
__device__ inline void finish_backward(const BackwardArguments& a) {
  using Element = typename Config::Element;
  const int query = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  if (query >= shape.queries) return;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  auto* d_q = static_cast<Element*>(a.d_q.data) + blockIdx.z * a.d_q.batch + head * a.d_q.head + row * a.d_q.row;
  const long long place = (static_cast<long long>(blockIdx.z) * a.h_q + head) * a.s_q + query;
  for (int column = lane; column < Config::kHeadQk; column += 32) {
    float sum = a.d_q_sums[place * Config::kHeadQk + column];
    for (int part = 1; part < a.d_q_parts; ++part) {
      sum += a.d_q_sums[part * a.d_q_part + place * Config::kHeadQk + column];
    }
    d_q[column] = element_of(Element{}, sum * a.scale);
  }
}

}  // namespace tilewise::cuda
