// Philox4x32-10 on lanes, compiled once for each instruction set (TILEWISE_ISA) with Highway's static dispatch.
// Bit-equal to core/philox.h; everything here has internal linkage but the entry point.
#include "variant/lanes/dropout_strip.h"

#include <hwy/highway.h>

#include "core/philox.h"

namespace tilewise::variant {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::ScalableTag<std::uint32_t> kWords;
constexpr hn::Repartition<std::uint64_t, decltype(kWords)> kPairs;
constexpr hn::Repartition<std::uint8_t, decltype(kWords)> kBytes;
constexpr hn::Rebind<float, decltype(kWords)> kFloats;
using Words = hn::Vec<decltype(kWords)>;
using Bytes = hn::Vec<decltype(kBytes)>;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(kWords));
constexpr std::int64_t kKeys = 16;  // of a Philox block

struct Product {
  Words high, low;
};

/// The 64-bit products of each lane with `multiplier`.
HWY_INLINE Product multiply(Words x, Words multiplier) {
  const auto even = hn::MulEven(x, multiplier);
  const auto odd = hn::MulEven(hn::BitCast(kWords, hn::ShiftRight<32>(hn::BitCast(kPairs, x))), multiplier);
  return {hn::OddEven(hn::BitCast(kWords, odd), hn::BitCast(kWords, hn::ShiftRight<32>(even))),
          hn::OddEven(hn::BitCast(kWords, hn::ShiftLeft<32>(odd)), hn::BitCast(kWords, even))};
}

/// One Philox block a lane.
struct State {
  Words word[4];

  HWY_INLINE void round(Words key0, Words key1) {
    const Product a = multiply(word[0], hn::Set(kWords, kPhiloxMultipliers[0]));
    const Product b = multiply(word[2], hn::Set(kWords, kPhiloxMultipliers[1]));
    word[0] = hn::Xor(b.high, hn::Xor(word[1], key0));
    word[1] = b.low;
    word[2] = hn::Xor(a.high, hn::Xor(word[3], key1));
    word[3] = a.low;
  }
};

/// For `kVectors` vectors of queries from `query` on, 16 keys each: bytes of ones where the weight is kept. Several
/// vectors together hide the latency of the rounds.
template <int kVectors>
HWY_INLINE void kept_bytes(const DropoutStrip& strip, std::uint32_t key_block, std::int64_t query,
                           Words (&kept)[kVectors][4]) {
  State states[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    const auto first = strip.query_begin + static_cast<std::uint32_t>(query + i * kLanes);
    states[i] = {{hn::Set(kWords, key_block), hn::Iota(kWords, first), hn::Set(kWords, strip.head_index),
                  hn::Set(kWords, strip.offset)}};
  }
  std::uint32_t key0 = strip.key_words[0], key1 = strip.key_words[1];
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (int i = 0; i < kVectors; ++i) states[i].round(hn::Set(kWords, key0), hn::Set(kWords, key1));
    key0 += kPhiloxWeyl[0];
    key1 += kPhiloxWeyl[1];
  }
  // Where nothing is kept (keep_below 0) every byte counts as kept, and `scale` is 0.
  const Bytes last = hn::Set(kBytes, static_cast<std::uint8_t>(strip.keep_below - 1));
  for (int i = 0; i < kVectors; ++i) {
    for (int word = 0; word < 4; ++word) {
      const Bytes bytes = hn::BitCast(kBytes, states[i].word[word]);
      kept[i][word] = hn::BitCast(kWords, hn::VecFromMask(kBytes, hn::Eq(hn::Min(bytes, last), bytes)));
    }
  }
}

/// Keys [from, to) of a Philox block, whose weights lie at `row` (key `from`), against some vectors of queries.
template <int kVectors, bool kWhole>
HWY_INLINE void drop_keys(const DropoutStrip& strip, std::uint32_t key_block, std::int64_t from, std::int64_t to,
                          std::int64_t query, float* row, std::int64_t last_lanes) {
  Words kept[kVectors][4];
  kept_bytes<kVectors>(strip, key_block, query, kept);
  const auto scale = hn::Set(kFloats, strip.scale);
  for (std::int64_t key = from; key < to; ++key, row += strip.stride) {
    const Words bit = hn::Set(kWords, 1u << (8 * (key % 4)));
    for (int i = 0; i < kVectors; ++i) {
      const auto is_kept = hn::RebindMask(kFloats, hn::TestBit(kept[i][key / 4], bit));
      const auto factor = hn::IfThenElseZero(is_kept, scale);
      float* at = row + i * kLanes;
      if constexpr (kWhole) {
        hn::StoreU(hn::Mul(hn::LoadU(kFloats, at), factor), kFloats, at);
      } else {
        const auto present = hn::FirstN(kFloats, static_cast<std::size_t>(last_lanes));
        hn::BlendedStore(hn::Mul(hn::MaskedLoad(present, kFloats, at), factor), present, kFloats, at);
      }
    }
  }
}

void drop(const DropoutStrip& strip) {
  const std::int64_t begin = strip.key_begin, end = begin + strip.keys;
  for (std::int64_t block = begin / kKeys; block * kKeys < end; ++block) {
    const std::int64_t first = block * kKeys < begin ? begin : block * kKeys;
    const std::int64_t from = first - block * kKeys, to = end - block * kKeys < kKeys ? end - block * kKeys : kKeys;
    float* row = strip.weights + (first - begin) * strip.stride;
    const auto key_block = static_cast<std::uint32_t>(block);
    std::int64_t query = 0;
    for (; query + 2 * kLanes <= strip.queries; query += 2 * kLanes)
      drop_keys<2, true>(strip, key_block, from, to, query, row + query, kLanes);
    for (; query + kLanes <= strip.queries; query += kLanes)
      drop_keys<1, true>(strip, key_block, from, to, query, row + query, kLanes);
    if (query < strip.queries)
      drop_keys<1, false>(strip, key_block, from, to, query, row + query, strip.queries - query);
  }
}

}  // namespace

template <>
DropoutFunction compiled_dropout<Isa::TILEWISE_ISA>() {
  return drop;
}

}  // namespace tilewise::variant
