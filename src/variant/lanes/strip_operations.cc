// Every operation on strips, compiled once for each instruction set (TILEWISE_ISA) with Highway's static dispatch.
//
// What is defined here has internal linkage, also the operations' templates: they are instantiated with the local type
// `LaneTags`. So nothing compiled for one processor can be linked in for another.
#include <hwy/highway.h>

#include "variant/lanes/kept_rows.h"
#include "variant/lanes/strip.h"
#include "variant/lanes/strip_rows.h"

namespace tilewise::variant {
namespace {

/// An operation of the list whose last operand is of type T.
template <class O, class T>
struct Listed {
  template <class... V>
  static HWY_INLINE auto lanes(V... operands) {
    return O::template lanes<T>(kTags, operands...);
  }
};

struct Settle {
  template <class D, class V>
  static HWY_INLINE V lanes(D d, V score) {
    const V floor = hn::Set(d, -0x1p126f), infinity = hn::Set(d, -kLaneInfinity);
    if constexpr (LaneTags::kEmulated || !HWY_ARCH_X86) {  // a maximum may lose a NaN
      return hn::IfThenElse(hn::And(hn::Lt(score, floor), hn::Gt(score, infinity)), floor, score);
    } else {
      return hn::IfThenElse(hn::Eq(score, infinity), score, hn::Max(floor, score));  // in this order of operands
    }
  }
  template <class V>
  static HWY_INLINE V lanes(V score) {
    return lanes(kTags.f, score);
  }
};

template <class O, class T>
struct ListedAndSettled {
  template <class... V>
  static HWY_INLINE auto lanes(V... operands) {
    return Settle::lanes(O::template lanes<T>(kTags, operands...));
  }
};

/// A comparison of ints and another keep.
template <class O>
struct HoldsAnd {
  template <class V>
  static HWY_INLINE V lanes(V x, V y, V keep) {
    return hn::And(O::template lanes<std::int32_t>(kTags, x, y), keep);
  }
};

template <class O>
void run_holds_and(const StripCall& call) {
  run<HoldsAnd<O>, std::int32_t, std::int32_t, std::int32_t>(call);
}

template <class O, class T, template <class, class> class Compute>
void run_operation(const StripCall& call) {
  static_assert(O::info.operands <= 2 || O::info.rule == Rule::select);
  if constexpr (O::info.rule == Rule::select) {
    run<Compute<O, T>, std::int32_t, T, T>(call);
  } else if constexpr (O::info.operands == 1) {
    run<Compute<O, T>, T>(call);
  } else {
    run<Compute<O, T>, T, T>(call);
  }
}

constexpr bool takes_reals(Rule rule) { return rule != Rule::integer && rule != Rule::logic && rule != Rule::to_real; }
constexpr bool takes_words(Rule rule) { return rule != Rule::real && rule != Rule::to_int; }
constexpr bool gives_reals(Rule rule) {
  return rule == Rule::arithmetic || rule == Rule::real || rule == Rule::select;  // of real operands
}

struct SettleKept {
  template <class I, class V>
  static HWY_INLINE V lanes(I keep, V score) {
    return hn::IfThenElse(hn::RebindMask(kTags.f, hn::MaskFromVec(keep)), Settle::lanes(score),
                          hn::Set(kTags.f, -kLaneInfinity));
  }
};

struct Copy {
  template <class V>
  static HWY_INLINE V lanes(V word) {
    return word;
  }
};

struct Reciprocal {
  template <class V>
  static HWY_INLINE V lanes(V x) {
    const V inverse = hn::Div(hn::Set(kTags.f, 1.0f), x);
    const V largest = hn::CopySign(hn::Set(kTags.f, kLaneLargest), x);
    const auto overflows =
        hn::And(hn::Gt(hn::Abs(inverse), hn::Set(kTags.f, kLaneLargest)), lane_not_equal(x, hn::Zero(kTags.f)));
    return hn::IfThenElse(overflows, largest, inverse);
  }
};

struct TanhOfProduct {
  template <class V>
  static HWY_INLINE V lanes(V x, V factor) {
    return lane_tanh(kTags, hn::Mul(x, factor));
  }
};

struct SettledTanh {
  template <class V>
  static HWY_INLINE V lanes(V x, V factor, V y) {
    return Settle::lanes(hn::Mul(y, TanhOfProduct::lanes(x, factor)));
  }
};

struct OneLessSquare {
  template <class V>
  static HWY_INLINE V lanes(V x) {
    return hn::Sub(hn::Set(kTags.f, 1.0f), hn::Mul(x, x));
  }
};

struct ScaledGradient {
  template <class V>
  static HWY_INLINE V lanes(V d, V factor) {
    return hn::IfThenElse(hn::Eq(d, hn::Zero(kTags.f)), hn::Zero(kTags.f), hn::Mul(d, factor));
  }
};

struct Gradient {
  template <class V>
  static HWY_INLINE V lanes(V d, V factor, V derivative) {
    return hn::IfThenElse(hn::Eq(d, hn::Zero(kTags.f)), hn::Zero(kTags.f), hn::Mul(hn::Mul(d, factor), derivative));
  }
};

void run_settle(const StripCall& call) { run<Settle, float>(call); }
void run_settle_kept(const StripCall& call) { run<SettleKept, std::int32_t, float>(call); }
void run_copy(const StripCall& call) { run<Copy, std::int32_t>(call); }
void run_reciprocal(const StripCall& call) { run<Reciprocal, float>(call); }
void run_tanh_of_product(const StripCall& call) { run<TanhOfProduct, float, float>(call); }
void run_settled_tanh(const StripCall& call) { run<SettledTanh, float, float, float>(call); }
void run_one_less_square(const StripCall& call) { run<OneLessSquare, float>(call); }
void run_gradient(const StripCall& call) { run<Gradient, float, float, float>(call); }
void run_scaled_gradient(const StripCall& call) { run<ScaledGradient, float, float>(call); }

/// Columns of a square, as many as a vector of 128 or 256 bits has lanes, to rows: visit(row, its words). Half a cache
/// line of a column at a time: columns are often a power of two apart and share a cache set, which would lose a line
/// that is come back to. What a single lane lacks is found through argument types.
template <class D, class Visit>
HWY_INLINE void transpose_square(D d, const std::int32_t* from, std::int64_t from_stride, Visit visit) {
  constexpr std::int64_t kSide = static_cast<std::int64_t>(hn::MaxLanes(d));
  constexpr hn::Repartition<std::int64_t, D> pairs;
  using V = hn::Vec<D>;
  V rows[kSide];
  // In each block of 128 bits: four columns of four neighbours to four rows.
  for (std::int64_t column = 0; column < kSide; column += 4) {
    const V a = hn::LoadU(d, from + column * from_stride), b = hn::LoadU(d, from + (column + 1) * from_stride);
    const V c = hn::LoadU(d, from + (column + 2) * from_stride), e = hn::LoadU(d, from + (column + 3) * from_stride);
    const auto low = hn::BitCast(pairs, InterleaveLower(d, a, b)), high = hn::BitCast(pairs, InterleaveUpper(d, a, b));
    const auto next_low = hn::BitCast(pairs, InterleaveLower(d, c, e));
    const auto next_high = hn::BitCast(pairs, InterleaveUpper(d, c, e));
    rows[column] = hn::BitCast(d, InterleaveLower(pairs, low, next_low));
    rows[column + 1] = hn::BitCast(d, InterleaveUpper(pairs, low, next_low));
    rows[column + 2] = hn::BitCast(d, InterleaveLower(pairs, high, next_high));
    rows[column + 3] = hn::BitCast(d, InterleaveUpper(pairs, high, next_high));
  }
  for (std::int64_t row = 0; row < 4; ++row) {
    if constexpr (kSide == 4) {
      visit(row, rows[row]);
    } else {
      visit(row, ConcatLowerLower(d, rows[4 + row], rows[row]));
      visit(4 + row, ConcatUpperUpper(d, rows[4 + row], rows[row]));
    }
  }
}

constexpr std::int64_t kSide = kLanes >= 8 ? 8 : kLanes >= 4 ? 4 : 1;  // lanes of a square's vectors; 1: no squares
constexpr hn::CappedTag<std::int32_t, static_cast<std::size_t>(kSide)> kSquare;

void transpose_words(const std::int32_t* from, std::int64_t from_stride, std::int64_t outer, std::int64_t inner,
                     std::int32_t* to, std::int64_t to_stride) {
  std::int64_t whole_inner = 0, whole_outer = 0;
  if constexpr (kSide > 1) {
    whole_inner = inner / kSide * kSide;
    whole_outer = outer / kSide * kSide;
    for (std::int64_t i = 0; i < whole_inner; i += kSide) {
      for (std::int64_t o = 0; o < whole_outer; o += kSide) {
        transpose_square(kSquare, from + i * from_stride + o, from_stride, [&](std::int64_t row, auto words) {
          hn::StoreU(words, kSquare, to + (o + row) * to_stride + i);
        });
      }
    }
  }
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = o < whole_outer ? whole_inner : 0; i < inner; ++i)
      __builtin_memcpy(to + o * to_stride + i, from + i * from_stride + o, sizeof *to);
  }
}

void transpose(const void* from, std::int64_t from_stride, std::int64_t outer, std::int64_t inner, void* to,
               std::int64_t to_stride) {
  transpose_words(static_cast<const std::int32_t*>(from), from_stride, outer, inner, static_cast<std::int32_t*>(to),
                  to_stride);
}

/// What squares leave over of add_across: row `o` from column `i` on.
void add_gathered(const StripCall& call, std::int64_t o, std::int64_t i) {
  const Strip &x = call.operands[0], &y = call.operands[1];
  for (; i < call.inner; i += kLanes) {
    const std::int64_t count = call.inner - i < kLanes ? call.inner - i : kLanes;
    float words[kLanes] = {};
    for (std::int64_t lane = 0; lane < count; ++lane)
      __builtin_memcpy(words + lane, static_cast<const float*>(y.data) + o + (i + lane) * y.inner, sizeof *words);
    const auto score = load_some(static_cast<const float*>(x.data) + o * x.outer + i, count);
    store_some(Settle::lanes(hn::Add(score, hn::LoadU(kTags.f, words))),
               static_cast<std::int32_t*>(call.result.data) + o * call.result.outer + i, count);
  }
}

void run_add_across(const StripCall& call) {
  const Strip &x = call.operands[0], &y = call.operands[1];
  std::int64_t whole_inner = 0, whole_outer = 0;
  if constexpr (kSide > 1) {
    whole_inner = call.inner / kSide * kSide;
    whole_outer = call.outer / kSide * kSide;
    constexpr hn::RebindToFloat<decltype(kSquare)> reals;
    // Copied: for all that the compiler knows, a store to the result could change what the call holds.
    const auto* from = static_cast<const std::int32_t*>(y.data);
    const auto* scores = static_cast<const float*>(x.data);
    auto* to = static_cast<float*>(call.result.data);
    const std::int64_t from_stride = y.inner, stride = x.outer, to_stride = call.result.outer;
    for (std::int64_t i = 0; i < whole_inner; i += kSide) {
      for (std::int64_t o = 0; o < whole_outer; o += kSide) {
        transpose_square(kSquare, from + i * from_stride + o, from_stride, [&](std::int64_t row, auto words) {
          const auto sum = hn::Add(hn::LoadU(reals, scores + (o + row) * stride + i), hn::BitCast(reals, words));
          hn::StoreU(Settle::lanes(reals, sum), reals, to + (o + row) * to_stride + i);
        });
      }
    }
  }
  for (std::int64_t o = 0; o < call.outer; ++o) add_gathered(call, o, o < whole_outer ? whole_inner : 0);
}

/// kPairs: terms times (kMostKeptTerms + 1), plus how many of them are inverted.
template <int... kPairs>
constexpr void add_kept(StripFunction (&kept)[kMostKeptTerms + 1][kMostKeptTerms + 1],
                        std::integer_sequence<int, kPairs...>) {
  const auto add = [&]<int kTerms, int kInverted>() {
    if constexpr (kInverted <= kTerms) kept[kTerms][kInverted] = run_kept<kTerms, kInverted>;
  };
  (add.template operator()<kPairs / (kMostKeptTerms + 1), kPairs % (kMostKeptTerms + 1)>(), ...);
}

template <class... O>
constexpr StripOperations all_operations(OperationList<O...>) {
  StripOperations all{{},
                      {},
                      {},
                      run_settle,
                      run_settle_kept,
                      run_copy,
                      {run_reciprocal,
                       run_tanh_of_product,
                       run_settled_tanh,
                       run_one_less_square,
                       run_add_across,
                       run_scaled_gradient,
                       run_gradient,
                       {}},
                      transpose};
  add_kept(all.fused.kept, std::make_integer_sequence<int, (kMostKeptTerms + 1) * (kMostKeptTerms + 1)>());
  int number = 0;
  const auto add = [&]<class Operation>() {
    constexpr Rule rule = Operation::info.rule;
    if constexpr (takes_words(rule)) all.operation[number][0] = run_operation<Operation, std::int32_t, Listed>;
    if constexpr (takes_reals(rule)) all.operation[number][1] = run_operation<Operation, float, Listed>;
    if constexpr (takes_reals(rule) && gives_reals(rule))
      all.settled[number] = run_operation<Operation, float, ListedAndSettled>;
    if constexpr (rule == Rule::comparison) all.holds_and[number] = run_holds_and<Operation>;
    ++number;
  };
  (add.template operator()<O>(), ...);
  return all;
}

constexpr StripOperations kAll = all_operations(Operations{});

}  // namespace

template <>
const StripOperations& compiled_strip_operations<Isa::TILEWISE_ISA>() {
  return kAll;
}

}  // namespace tilewise::variant
