// Runs a computation over the rows of strips, a vector at a time. Part of a source that is compiled once for each
// instruction set, so all of it has internal linkage.
#pragma once

#include <hwy/highway.h>

#include <cstdint>
#include <utility>

#include "variant/lanes/strip.h"

namespace tilewise::variant {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// The tags that operations get; see operations/lane_math.h.
struct LaneTags {
  static constexpr bool kHasHalves = hn::MaxLanes(hn::ScalableTag<float>()) > 1;
  static constexpr bool kEmulated = HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128;
  hn::ScalableTag<float> f;
  hn::ScalableTag<std::int32_t> i;
  hn::Rebind<float, hn::ScalableTag<double>> half_f;
  hn::Rebind<std::int32_t, hn::ScalableTag<double>> half_i;
  hn::ScalableTag<double> d;
  hn::ScalableTag<std::int64_t> q;
};
constexpr LaneTags kTags{};
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(kTags.f));
#if defined(__AVX512F__)
static_assert(HWY_TARGET == HWY_AVX3, "the flags of this source lack some of what Highway wants");
#elif defined(__AVX2__)
static_assert(HWY_TARGET == HWY_AVX2, "the flags of this source lack some of what Highway wants");
#endif
static_assert(kLanes <= static_cast<std::int64_t>(kMostLanes));
/// Vectors in a strip of queries of the kernels that run on the same processor.
constexpr int kStripVectors = HWY_TARGET == HWY_AVX2 ? 3 : 2;

auto tag_of(float) { return kTags.f; }
auto tag_of(std::int32_t) { return kTags.i; }

/// AVX2's masked loads and stores of 32-bit words leave the others alone, though not those of narrower ones, for which
/// Highway says that they might fault.
constexpr bool kMasks = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;

/// The first `count` lanes of a vector (the others are anything), touching no word beyond.
template <class T>
HWY_INLINE auto load_some(const T* from, std::int64_t count) {
  if constexpr (kMasks) {
    return hn::MaskedLoad(hn::FirstN(tag_of(T{}), static_cast<std::size_t>(count)), tag_of(T{}), from);
  } else {
    T words[kLanes] = {};
    __builtin_memcpy(words, from, static_cast<std::size_t>(count) * sizeof(T));
    return hn::LoadU(tag_of(T{}), words);
  }
}

template <class V>
HWY_INLINE void store(V v, std::int32_t* to) {
  hn::StoreU(hn::BitCast(kTags.i, v), kTags.i, to);
}
template <class V>
HWY_INLINE void store_some(V v, std::int32_t* to, std::int64_t count) {
  const auto words = hn::BitCast(kTags.i, v);
  if constexpr (kMasks) {
    hn::BlendedStore(words, hn::FirstN(kTags.i, static_cast<std::size_t>(count)), kTags.i, to);
  } else {
    std::int32_t all[kLanes];
    hn::StoreU(words, kTags.i, all);
    __builtin_memcpy(to, all, static_cast<std::size_t>(count) * sizeof(std::int32_t));
  }
}

/// Where the vectors of an operand's row are read, one after another.
template <class T>
struct Source {
  const T* from;
  std::int64_t step;  // words to the next vector: kLanes, or 0 for a repeated word

  HWY_INLINE auto next() {
    const auto v = hn::LoadU(tag_of(T{}), from);
    from += step;
    return v;
  }
  HWY_INLINE auto at(std::int64_t vector) const { return hn::LoadU(tag_of(T{}), from + vector * step); }
  HWY_INLINE auto rest(std::int64_t count) const {
    return step == 0 ? hn::LoadU(tag_of(T{}), from) : load_some(from, count);
  }
};

/// An operand, row after row. A repeated word becomes a vector of `copies`, which every step reads again: a load that
/// always hits costs less code than a loop for each combination of operands.
template <class T>
struct Operand {
  const T* from;
  std::int64_t outer, inner;
  T* copies;  // [kLanes]

  HWY_INLINE Operand(const Strip& strip, T* its_copies)
      : from(static_cast<const T*>(strip.data)), outer(strip.outer), inner(strip.inner), copies(its_copies) {}

  HWY_INLINE Source<T> next_row() {
    const T* row = from;
    from += outer;
    if (inner != 0) return {row, kLanes};
    hn::StoreU(hn::Set(tag_of(T{}), *row), tag_of(T{}), copies);
    return {copies, 0};
  }
};

/// Everything by value: a store to `result` could otherwise change what is read in the loop, for all that the compiler
/// knows.
template <class Compute, class... T>
HWY_INLINE void run_row(std::int32_t* result, std::int64_t count, Source<T>... sources) {
  for (; count >= kLanes; count -= kLanes, result += kLanes) store(Compute::lanes(sources.next()...), result);
  if (count > 0) store_some(Compute::lanes(sources.rest(count)...), result, count);
}
/// Rows of kVectors whole vectors.
template <class Compute, int kVectors, class... T>
HWY_INLINE void run_whole_row(std::int32_t* result, Source<T>... sources) {
  for (int i = 0; i < kVectors; ++i) store(Compute::lanes(sources.at(i)...), result + i * kLanes);
}
template <class Compute, int kVectors, class... T>
HWY_INLINE void run_whole_rows(std::int64_t outer, std::int32_t* result, std::int64_t result_outer,
                               Operand<T>... operands) {
  for (; outer > 0; --outer, result += result_outer)
    run_whole_row<Compute, kVectors, T...>(result, operands.next_row()...);
}
template <class Compute, class... T>
HWY_INLINE void run_rows(std::int64_t outer, std::int64_t inner, std::int32_t* result, std::int64_t result_outer,
                         Operand<T>... operands) {
  // The strips of the kernels: their rows are so short that a loop over one costs as much as what it computes.
  if (outer > 1 && inner == kStripVectors * kLanes)
    return run_whole_rows<Compute, kStripVectors, T...>(outer, result, result_outer, operands...);
  for (; outer > 0; --outer, result += result_outer) run_row<Compute, T...>(result, inner, operands.next_row()...);
}

template <class T>
struct Copies {
  T words[kLanes];
};

/// Runs `Compute::lanes` of operands of types T... over all rows.
template <class Compute, class... T, std::size_t... I>
HWY_INLINE void run_with(const StripCall& call, std::index_sequence<I...>, Copies<T>... copies) {
  run_rows<Compute, T...>(call.outer, call.inner, static_cast<std::int32_t*>(call.result.data), call.result.outer,
                          Operand<T>(call.operands[I], copies.words)...);
}
template <class Compute, class... T>
HWY_INLINE void run(const StripCall& call) {
  run_with<Compute, T...>(call, std::index_sequence_for<T...>(), Copies<T>()...);
}

}  // namespace
}  // namespace tilewise::variant
