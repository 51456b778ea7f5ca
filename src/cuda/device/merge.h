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

/// Merges `parts` results, `o` [parts, d_v] of quotients and `lse` [parts] in log2 units: the same merge as the host's,
/// the sink last.
template <class Config, class Variant>
__device__ inline void merge_parts(const ForwardArguments& f, const typename Variant::Arguments& variant,
                                   const SequenceShape& shape, const QueryPlace& at, const float* o, const float* lse,
                                   int parts, int thread, int threads) {
  float base = kNoBase;
  for (int i = 0; i < parts; ++i) base = fmaxf(base, lse[i]);
  float sum = 0;
  if constexpr (Variant::kHasSink) {
    const auto place = Variant::place_of(variant, shape, at.sequence, at.head, at.head / f.heads_per_kv, f.scale);
    const float sink = Variant::sink_logit(variant, place) * kLog2E;
    base = fmaxf(base, sink);
    sum = exp2_of(sink - base);
  }
  for (int i = 0; i < parts; ++i) sum += exp2_of(lse[i] - base);
  const float multiplier = sum == 0 ? 0 : 1 / sum;
  write_answer<Config>(f, shape, at, thread, threads, (base + log2f(sum)) * kLn2, [&](int column) {
    float value = 0;
    for (int i = 0; i < parts; ++i) value += o[i * Config::kHeadV + column] * exp2_of(lse[i] - base);
    return value * multiplier;
  });
}

}  // namespace tilewise::cuda
