// What the backward pass needs of each query beforehand, and what becomes of the sums of d_q afterwards.
#pragma once

#include "gradients.h"
#include "launches.h"
#include "scores.h"
#include "sm90/added.h"
#include "sm90_call.h"

namespace tilewise::cuda::sm90 {

/// Sizes that the three kernels of the backward pass share. Config: see Backward.
template <class Config>
struct BackwardSizes {
  /// d_k and d_v of 64 keys do not fit in one consumer's registers: see WideConsumers.
  static constexpr bool kIsWide = Config::kHeadQk > 128 || Config::kHeadV > 128;
  static constexpr int kQueries = 64, kKeys = kIsWide ? 64 : 128, kConsumers = 2;
  static constexpr int kChunksQk = (Config::kHeadQk + 63) / 64;
  static_assert(kChunksQk <= 4);
  /// d_q^T is made in parts of 64 columns; where narrow heads have but one such chunk, in halves of the queries, so
  /// that each consumer has a part.
  static constexpr bool kHalvesQueries = !kIsWide && kChunksQk == 1;
  static constexpr int kParts = kHalvesQueries ? 2 : kChunksQk;
  static constexpr int kQueriesOfPart = kHalvesQueries ? kQueries / 2 : kQueries;
  static constexpr int kBlocks = kQueriesOfPart / 8;
  static constexpr int kTileFloats = kQueries * kChunksQk * 64;

  /// Where a thread's four numbers of block j begin in a tile of d_q_sums.
  __device__ static int place(int part, int j, int thread) { return ((part * kBlocks + j) * 128 + thread) * 4; }
};

/// The head and the sequence of a block, the last ones first: heads follow each other in the pass between, so that what
/// is prepared last, and added last, is the next kernel's first, and in the second-level cache still.
struct FromEnd {
  int head, sequence;

  __device__ FromEnd() : head(gridDim.y - 1 - blockIdx.y), sequence(gridDim.z - 1 - blockIdx.z) {}
};

/// The sum of the products of eight elements each, in 16 bytes that begin at these elements.
template <class Element>
__device__ inline float product_of(const TensorView& x, long long at_x, const TensorView& y, long long at_y) {
  const uint4 o = *reinterpret_cast<const uint4*>(static_cast<const Element*>(x.data) + at_x);
  const uint4 d_o = *reinterpret_cast<const uint4*>(static_cast<const Element*>(y.data) + at_y);
  const unsigned left[] = {o.x, o.y, o.z, o.w}, right[] = {d_o.x, d_o.y, d_o.z, d_o.w};
  const auto low = [](unsigned pair) { return value_of(Element{static_cast<unsigned short>(pair & 0xffff)}); };
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum += low(left[i]) * low(right[i]);
    sum += low(left[i] >> 16) * low(right[i] >> 16);
  }
  return sum;
}

/// reference, delta, and zeros for the sums of d_q; 16 threads to a query, of which there are whole tiles.
///
/// What is stored are the numbers that products are added to. Without score functions scores begin at -lse / scale, so
/// that a weight is exp(scale * score); with them, at 0, and reference is lse in log2 units. Products of d_o and v
/// begin at -delta.
template <class Config, class Variant>
__device__ inline void prepare_backward(const BackwardCall& call, const typename Variant::Arguments& variant) {
  using Element = typename Config::Element;
  using Sizes = BackwardSizes<Config>;
  const BackwardArguments& a = call.arguments;
  const FromEnd from;
  const int head = from.head, sequence = from.sequence;
  const int query = blockIdx.x * (blockDim.x / 16) + threadIdx.x / 16, part = threadIdx.x % 16;
  const SequenceShape& shape = a.sequences[sequence];
  const long long place =
      (static_cast<long long>(sequence) * a.h_q + head) * call.query_tiles * Sizes::kQueries + query;
  const long long row = query + (a.queries_packed ? shape.query_token : 0);
  const auto at = [&](const TensorView& view) { return sequence * view.batch + head * view.head + row * view.row; };
  const bool exists = query < shape.queries;
  float sum = 0;
  if (exists) {
#pragma unroll
    for (int column = 8 * part; column < Config::kHeadV; column += 128) {
      sum += product_of<Element>(a.o, at(a.o) + column, a.d_o, at(a.d_o) + column);
    }
  }
#pragma unroll
  for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (part == 0) {
    float lse = -infinity(), d_lse = 0;
    if (exists) {
      lse = static_cast<const float*>(a.lse.data)[at(a.lse)];
      if (a.d_lse.data != nullptr) d_lse = static_cast<const float*>(a.d_lse.data)[at(a.d_lse)];
    }
    const float reference = lse == -infinity() ? infinity() : lse * kLog2E;
    a.reference[place] = Variant::kChangesScores ? reference : -reference / call.factor;
    a.delta[place] = d_lse - sum;
    if constexpr (Config::kHasGradients && Variant::kHasSink) {
      if (exists) add_sink_gradients<Variant>(a, variant, sequence, head, lse, sum - d_lse);
    }
    if (Config::kIsOrdered && query % Sizes::kQueries == 0) a.d_q_turns[place / Sizes::kQueries] = 0;
    if (Config::kCountsAdded && query == 0) *AddedCount::of(call, sequence, head / a.heads_per_kv).count = 0;
  }
  constexpr int kFloats = Sizes::kTileFloats / Sizes::kQueries / 16;
  float4* const zeros = reinterpret_cast<float4*>(a.d_q_sums + place * (16 * kFloats) + part * kFloats);
#pragma unroll
  for (int i = 0; i < kFloats / 4; ++i) zeros[i] = make_float4(0, 0, 0, 0);
}

/// Rounds the sums of d_q, scaled; a block of 256 threads to a tile. Where the pass between counts, heads follow each
/// other as there, so that those that are complete first are rounded beside its last blocks.
template <class Config>
__device__ inline void finish_backward(const BackwardCall& call) {
  using Element = typename Config::Element;
  using Sizes = BackwardSizes<Config>;
  const BackwardArguments& a = call.arguments;
  const FromEnd from;
  const int head = call.counts_added != 0 ? int(blockIdx.y) : from.head;
  const int sequence = call.counts_added != 0 ? int(blockIdx.z) : from.sequence;
  const int tile = blockIdx.x;
  wait_for_sums(call, sequence, head);
  const SequenceShape& shape = a.sequences[sequence];
  if (tile * Sizes::kQueries >= shape.queries) return;
  // A row more than a multiple of 32 words apart: the lanes that hold one query's columns meet no bank twice.
  constexpr int kColumns = Sizes::kChunksQk * 64, kStride = kColumns + 8;
  __shared__ Element rows[Sizes::kQueries * kStride];
  const int thread = threadIdx.x % 128, lane = thread % 32;
  const float* const sums =
      a.d_q_sums + ((static_cast<long long>(sequence) * a.h_q + head) * call.query_tiles + tile) * Sizes::kTileFloats;
  for (int part = threadIdx.x / 128; part < Sizes::kParts; part += 2) {
    const int column = (Sizes::kHalvesQueries ? 0 : part * 64) + thread / 32 * 16 + lane / 4;
    const int first = (Sizes::kHalvesQueries ? part * Sizes::kQueriesOfPart : 0) + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < Sizes::kBlocks; ++j) {
      const float4 x = *reinterpret_cast<const float4*>(sums + Sizes::place(part, j, thread));
      const auto put = [&](int query, int to, float value) {
        rows[query * kStride + to].bits =
            static_cast<unsigned short>(packed(Element{}, value * a.scale, 0.0f) & 0xffffu);
      };
      put(first + 8 * j, column, x.x);
      put(first + 8 * j + 1, column, x.y);
      put(first + 8 * j, column + 8, x.z);
      put(first + 8 * j + 1, column + 8, x.w);
    }
  }
  __syncthreads();
  auto* const d_q = static_cast<Element*>(a.d_q.data) + sequence * a.d_q.batch + head * a.d_q.head +
                    (a.queries_packed ? shape.query_token : 0) * a.d_q.row;
  constexpr int kPieces = Config::kHeadQk / 8;
  for (int i = threadIdx.x; i < Sizes::kQueries * kPieces; i += blockDim.x) {
    const int query = i / kPieces, piece = i % kPieces * 8;
    if (tile * Sizes::kQueries + query >= shape.queries) break;
    *reinterpret_cast<uint4*>(d_q + (tile * Sizes::kQueries + query) * a.d_q.row + piece) =
        *reinterpret_cast<const uint4*>(&rows[query * kStride + piece]);
  }
}

}  // namespace tilewise::cuda::sm90
