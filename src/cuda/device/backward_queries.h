// What the backward pass does to each query before the tiles and after them.
#pragma once

#include "arguments.h"
#include "element.h"
#include "gradients.h"
#include "launches.h"
#include "query_sums.h"
#include "softmax.h"
#include "store_rows.h"

namespace tilewise::cuda {

/// Of kPrepared numbers of each lane the sums over a warp: of number n in lanes 4 n to 4 n + 3.
inline constexpr int kPrepared = 8;
__device__ inline float sums_of_warp(float (&x)[kPrepared]) {
#pragma unroll
  for (int count = kPrepared / 2, step = 16; count > 0; count /= 2, step /= 2) {
    const bool is_high = (threadIdx.x & step) != 0;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float own = is_high ? x[i + count] : x[i], others = is_high ? x[i] : x[i + count];
      x[i] = own + __shfl_xor_sync(~0u, others, step);
    }
  }
  return sum_of_row(x[0]);
}

/// What a block of a grid [blocks of queries, heads] takes: the last queries of all heads first. The pass between
/// begins with the first ones and ends with the last: what is prepared last, and added last, is then the next kernel's
/// first, and still in the second-level cache.
struct QueriesFromEnd {
  int block, head;

  __device__ QueriesFromEnd() {
    const int number = blockIdx.y * gridDim.x + blockIdx.x, heads = gridDim.y;
    block = gridDim.x - 1 - number / heads;
    head = number % heads;
  }
};

/// What the backward pass needs of each query, a warp to kPrepared queries, all of whose loads are on their way
/// together: reference and delta; and zeros for the sums of d_q, also of the queries that fill the last tile.
template <class Config, class Variant>
__device__ inline void prepare_backward(const BackwardArguments& a, const typename Variant::Arguments& variant) {
  using Element = typename Config::Element;
  let_next_kernel_begin();
  const QueriesFromEnd taken;
  const int first = (taken.block * (blockDim.x / 32) + threadIdx.x / 32) * kPrepared, head = taken.head;
  const int lane = threadIdx.x % 32;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  const long long head_number = static_cast<long long>(blockIdx.z) * a.h_q + head;
  using Sums = QuerySums<Config::kHeadQk>;
  static_assert(Sums::kRoom % kPrepared == 0);
  if (a.d_q.data != nullptr && first < Sums::room(shape.queries)) {
    float* const sums = Sums::of_head(a.d_q_sums, head_number, a.s_q).first + first * Config::kHeadQk;
    for (int part = 0; part < a.d_q_parts; ++part) {
#pragma unroll
      for (int i = 4 * lane; i < kPrepared * Config::kHeadQk; i += 128)
        *reinterpret_cast<float4*>(sums + part * a.d_q_part + i) = make_float4(0, 0, 0, 0);
    }
  }
  if (first >= shape.queries) return;
  const long long row = first + (a.queries_packed ? shape.query_token : 0);
  const auto at = [&](const TensorView& view) { return blockIdx.z * view.batch + head * view.head + row * view.row; };
  const auto* o = static_cast<const Element*>(a.o.data) + at(a.o);
  const auto* d_o = static_cast<const Element*>(a.d_o.data) + at(a.d_o);
  float products[kPrepared] = {};
  static_assert(Config::kHeadQk % 4 == 0 && Config::kHeadV % 4 == 0);
  for (int column = 4 * lane; column < Config::kHeadV; column += 128) {
    float x[kPrepared][4], y[kPrepared][4];
#pragma unroll
    for (int i = 0; i < kPrepared; ++i) {
      const int from = ::min(i, shape.queries - 1 - first);  // those behind the last one count for nothing
      load_four<Config::kAligned>(o + from * a.o.row + column, x[i]);
      load_four<Config::kAligned>(d_o + from * a.d_o.row + column, y[i]);
    }
#pragma unroll
    for (int i = 0; i < kPrepared; ++i)
      products[i] += (x[i][0] * y[i][0] + x[i][1] * y[i][1]) + (x[i][2] * y[i][2] + x[i][3] * y[i][3]);
  }
  const float sum = sums_of_warp(products);
  const int own = lane / 4;
  const bool writes = lane % 4 == 0 && first + own < shape.queries;
  float lse = -infinity(), delta = 0;
  if (writes) {
    lse = static_cast<const float*>(a.lse.data)[at(a.lse) + own * a.lse.row];
    const float d_lse =
        a.d_lse.data != nullptr ? static_cast<const float*>(a.d_lse.data)[at(a.d_lse) + own * a.d_lse.row] : 0;
    delta = sum - d_lse;
    const long long place = head_number * a.s_q + first + own;
    a.reference[place] = lse == -infinity() ? infinity() : lse * kLog2E;
    a.delta[place] = delta;
  }
  if constexpr (Config::kHasGradients && Variant::kHasSink) {
    // One lane after the other: sums in fixed point are of single rows, whichever lanes run together.
    for (int i = 0; i < kPrepared; ++i) {
      if (writes && own == i) add_sink_gradients<Variant>(a, variant, blockIdx.z, head, lse, delta);
    }
  }
}

/// Rounds the sums of d_q, their parts added up in order and scaled, a warp to 16 queries.
template <class Config>
__device__ inline void finish_backward(const BackwardArguments& a) {
  using Element = typename Config::Element;
  using Sums = QuerySums<Config::kHeadQk>;
  const QueriesFromEnd taken;
  const int head = taken.head, lane = threadIdx.x % 32;
  const int first_query = (taken.block * (blockDim.x / 32) + threadIdx.x / 32) * Sums::kRows;
  const SequenceShape& shape = a.sequences[blockIdx.z];
  const int queries = shape.queries;  // in global memory: read but once
  if (first_query >= queries) return;
  wait_for_kernels_before();
  const Sums sums = Sums::of_head(a.d_q_sums, static_cast<long long>(blockIdx.z) * a.h_q + head, a.s_q);
  const int query = first_query + lane / 4;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  auto* d_q = static_cast<Element*>(a.d_q.data) + blockIdx.z * a.d_q.batch + head * a.d_q.head + row * a.d_q.row;
  constexpr int kBlocks = Config::kHeadQk / 8, kTogether = 4;  // whose loads are on their way together
#pragma unroll
  for (int first = 0; first < kBlocks; first += kTogether) {
    const int blocks = kBlocks - first < kTogether ? kBlocks - first : kTogether;
    float x[kTogether][4] = {};
    for (int part = 0; part < a.d_q_parts; ++part) {
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        if (j < blocks) Sums::read(sums.place(first_query, 8 * (first + j), lane) + part * a.d_q_part, x[j]);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      store_blocks<Config::kAligned>(d_q + 8 * half * a.d_q.row + 8 * first, blocks, query + 8 * half < queries,
                                     [&](int j) {
                                       const float* const two = &x[j][2 * half];
                                       return make_float2(two[0] * a.scale, two[1] * a.scale);
                                     });
    }
  }
}

}  // namespace tilewise::cuda
