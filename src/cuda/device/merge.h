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

/// Writes o and lse of a query, by `threads` threads. Config has Element and kHeadV.
template <class Config, class Values>
__device__ inline void write_answer(const ForwardArguments& f, const SequenceShape& shape, const QueryPlace& at,
                                    int thread, int threads, float lse, Values values) {
  using Element = typename Config::Element;
  const long long row = at.query + (f.queries_packed ? shape.query_token : 0);
  auto* o = static_cast<Element*>(f.o.data) + at.sequence * f.o.batch + at.head * f.o.head + row * f.o.row;
  for (int column = thread; column < Config::kHeadV; column += threads)
    o[column] = element_of(Element{}, values(column));
  if (thread == 0 && f.lse.data != nullptr)
    static_cast<float*>(f.lse.data)[at.sequence * f.lse.batch + at.head * f.lse.head + row * f.lse.row] = lse;
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

/// Merges `parts` results, `o` [parts, d_v] of quotients and `lse` [parts] in log2 units: the same merge as the host's,
/// the sink last. By kWarps of a block's four warps, one of which takes every kWarps-th part, so that all that is
/// waited for is on its way at once; one by one, 33 parts took longer than their kernel's last tile.
template <class Config, class Variant, int kWarps>
__device__ inline void merge_parts(const ForwardArguments& f, const typename Variant::Arguments& variant,
                                   const SequenceShape& shape, const QueryPlace& at, const float* o, const float* lse,
                                   int parts) {
  static_assert(kWarps == 1 || kWarps == 4);
  constexpr int kColumns = Config::kHeadV, kChunks = (kColumns / 4 + 31) / 32;
  constexpr int kTogether = 4;  // parts of a warp that are on their way at a time
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float4 x[kTogether][kChunks];
  const auto ask_for = [&](int first) {
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        const int part = first + i * kWarps, column = (32 * chunk + lane) * 4;
        x[i][chunk] = make_float4(0, 0, 0, 0);
        if (part < parts && column < kColumns)
          x[i][chunk] = *reinterpret_cast<const float4*>(o + part * kColumns + column);
      }
    }
  };
  const int own_first = kWarps == 1 ? 0 : warp;
  ask_for(own_first);  // before it is known what they weigh
  float base = kNoBase;
  for (int i = lane; i < parts; i += 32) base = fmaxf(base, lse[i]);
  base = largest_of_warp(base);
  float of_sink = 0;
  if constexpr (Variant::kHasSink) {
    const auto place = Variant::place_of(variant, shape, at.sequence, at.head, at.head / f.heads_per_kv, f.scale);
    const float sink = Variant::sink_logit(variant, place) * kLog2E;
    base = fmaxf(base, sink);
    of_sink = exp2_of(sink - base);
  }
  float sum = 0;
  for (int i = lane; i < parts; i += 32) sum += exp2_of(lse[i] - base);
  sum = sum_of_warp(sum) + of_sink;

  __shared__ float sums[4][kColumns];
  float4 own[kChunks];
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) own[chunk] = make_float4(0, 0, 0, 0);
  for (int first = own_first; first < parts; first += kTogether * kWarps) {
    if (first != own_first) ask_for(first);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int part = first + i * kWarps;
      const float share = part < parts ? exp2_of(lse[part] - base) : 0;
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        own[chunk].x += x[i][chunk].x * share, own[chunk].y += x[i][chunk].y * share;
        own[chunk].z += x[i][chunk].z * share, own[chunk].w += x[i][chunk].w * share;
      }
    }
  }
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int column = (32 * chunk + lane) * 4;
    if (column < kColumns) *reinterpret_cast<float4*>(&sums[warp][column]) = own[chunk];
  }
  if constexpr (kWarps == 1) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  const float multiplier = sum == 0 ? 0 : 1 / sum;
  write_answer<Config>(
      f, shape, at, kWarps == 1 ? lane : threadIdx.x, 32 * kWarps, (base + log2f(sum)) * kLn2, [&](int column) {
        if constexpr (kWarps == 1) return sums[warp][column] * multiplier;
        return ((sums[0][column] + sums[1][column]) + (sums[2][column] + sums[3][column])) * multiplier;
      });
}

}  // namespace tilewise::cuda
