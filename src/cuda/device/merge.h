// A query's partial results, each over some of its keys, and how they become its answer.
#pragma once

#include "arguments.h"
#include "element.h"
#include "launches.h"
#include "softmax.h"

namespace tilewise::cuda {

struct QueryPlace {
  int sequence, head, query;
};

/// Where a query's row of o begins. Config has Element and kHeadV.
template <class Config>
__device__ inline typename Config::Element* answer_row(const ForwardArguments& f, const SequenceShape& shape,
                                                       const QueryPlace& at) {
  const long long row = at.query + (f.queries_packed ? shape.query_token : 0);
  return static_cast<typename Config::Element*>(f.o.data) + at.sequence * f.o.batch + at.head * f.o.head +
         row * f.o.row;
}

/// By one thread, where lse is asked for.
__device__ inline void write_lse(const ForwardArguments& f, const QueryPlace& at, const SequenceShape& shape,
                                 float lse) {
  if (f.lse.data == nullptr) return;
  const long long row = at.query + (f.queries_packed ? shape.query_token : 0);
  static_cast<float*>(f.lse.data)[at.sequence * f.lse.batch + at.head * f.lse.head + row * f.lse.row] = lse;
}

/// Writes o and lse of a query, by `threads` threads.
template <class Config, class Values>
__device__ inline void write_answer(const ForwardArguments& f, const SequenceShape& shape, const QueryPlace& at,
                                    int thread, int threads, float lse, Values values) {
  using Element = typename Config::Element;
  Element* const o = answer_row<Config>(f, shape, at);
  for (int column = thread; column < Config::kHeadV; column += threads)
    o[column] = element_of(Element{}, values(column));
  if (thread == 0) write_lse(f, at, shape, lse);
}

/// The largest (or the sum) over a warp's lanes.
__device__ inline float largest_of_warp(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}
__device__ inline float sum_of_warp(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

/// What the parts of a query come to: their bases' joint base, in log2 units, and the sum of their weights by it.
struct JointSum {
  float base, sum;
};

/// Of `lse` [parts] in log2 units, with the sink's part; by each warp that wants it. Other blocks of this kernel may
/// have written it: first-level caches know nothing of that.
template <class Variant>
__device__ inline JointSum joint_sum(const ForwardArguments& f, const typename Variant::Arguments& variant,
                                     const SequenceShape& shape, const QueryPlace& at, const float* lse, int parts) {
  const int lane = threadIdx.x % 32;
  float base = kNoBase;
  for (int i = lane; i < parts; i += 32) base = fmaxf(base, __ldcg(lse + i));
  base = largest_of_warp(base);
  float of_sink = 0;
  if constexpr (Variant::kHasSink) {
    const auto place = Variant::place_of(variant, shape, at.sequence, at.head, at.head / f.heads_per_kv, f.scale);
    const float sink = Variant::sink_logit(variant, place) * kLog2E;
    base = fmaxf(base, sink);
    of_sink = exp2_of(sink - base);
  }
  float sum = 0;
  for (int i = lane; i < parts; i += 32) sum += exp2_of(__ldcg(lse + i) - base);
  return {base, sum_of_warp(sum) + of_sink};
}

/// Columns of a row by a warp, four of each lane.
template <int kColumns>
struct LaneColumns {
  static constexpr int kChunks = (kColumns / 4 + 31) / 32;
  float x[kChunks][4];

  __device__ static int column(int chunk) { return (32 * chunk + static_cast<int>(threadIdx.x) % 32) * 4; }

  /// The sum over the parts first, first + step .. of `o` [parts, kColumns] by their shares; kAtOnce are on their way
  /// together.
  template <int kAtOnce>
  __device__ void add_parts(const float* o, const float* lse, float base, int first, int step, int parts) {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) x[chunk][0] = x[chunk][1] = x[chunk][2] = x[chunk][3] = 0;
    for (; first < parts; first += kAtOnce * step) {
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        const int i = first + n * step;
        if (i >= parts) continue;
        const float share = exp2_of(__ldcg(lse + i) - base);
#pragma unroll
        for (int chunk = 0; chunk < kChunks; ++chunk) {
          if (column(chunk) >= kColumns) continue;
          const float4 four = __ldcg(reinterpret_cast<const float4*>(o + i * kColumns + column(chunk)));
          x[chunk][0] += four.x * share, x[chunk][1] += four.y * share;
          x[chunk][2] += four.z * share, x[chunk][3] += four.w * share;
        }
      }
    }
  }
};

/// Merges `parts` results, `o` [parts, d_v] of quotients and `lse` [parts] in log2 units: the same merge as the host's,
/// the sink last. By a warp; rows of o begin at multiples of 16 bytes where kAligned.
template <class Config, class Variant, bool kAligned>
__device__ inline void merge_parts_by_warp(const ForwardArguments& f, const typename Variant::Arguments& variant,
                                           const SequenceShape& shape, const QueryPlace& at, const float* o,
                                           const float* lse, int parts) {
  using Element = typename Config::Element;
  const JointSum joint = joint_sum<Variant>(f, variant, shape, at, lse, parts);
  LaneColumns<Config::kHeadV> own;
  own.template add_parts<4>(o, lse, joint.base, 0, 1, parts);
  const float multiplier = joint.sum == 0 ? 0 : 1 / joint.sum;
  Element* const answer = answer_row<Config>(f, shape, at);
#pragma unroll
  for (int chunk = 0; chunk < own.kChunks; ++chunk) {
    if (own.column(chunk) >= Config::kHeadV) continue;
    float (&x)[4] = own.x[chunk];
#pragma unroll
    for (int e = 0; e < 4; ++e) x[e] *= multiplier;
    store_four<kAligned>(answer + own.column(chunk), x);
  }
  if (threadIdx.x % 32 == 0) write_lse(f, at, shape, (joint.base + log2f(joint.sum)) * kLn2);
}

/// Likewise by a block of four warps, one of which takes every fourth part, so that all that is waited for is on its way
/// at once; one by one, 33 parts took longer than their kernel's last tile.
template <class Config, class Variant>
__device__ inline void merge_parts_by_block(const ForwardArguments& f, const typename Variant::Arguments& variant,
                                            const SequenceShape& shape, const QueryPlace& at, const float* o,
                                            const float* lse, int parts) {
  constexpr int kColumns = Config::kHeadV;
  const JointSum joint = joint_sum<Variant>(f, variant, shape, at, lse, parts);
  const int warp = threadIdx.x / 32;
  LaneColumns<kColumns> own;
  own.template add_parts<4>(o, lse, joint.base, warp, 4, parts);
  __shared__ float sums[4][kColumns];
#pragma unroll
  for (int chunk = 0; chunk < own.kChunks; ++chunk) {
    const float (&x)[4] = own.x[chunk];
    if (own.column(chunk) < kColumns)
      *reinterpret_cast<float4*>(&sums[warp][own.column(chunk)]) = make_float4(x[0], x[1], x[2], x[3]);
  }
  __syncthreads();
  const float multiplier = joint.sum == 0 ? 0 : 1 / joint.sum;
  write_answer<Config>(f, shape, at, threadIdx.x, 128, (joint.base + log2f(joint.sum)) * kLn2, [&](int column) {
    return ((sums[0][column] + sums[1][column]) + (sums[2][column] + sums[3][column])) * multiplier;
  });
}

}  // namespace tilewise::cuda
