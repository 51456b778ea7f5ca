// Which entries of a tile stay, as bits of the lanes that have their products.
#pragma once

namespace tilewise::cuda {

/// A lane's entries of 16 queries by kKeys keys, as products of the tensor cores have them: block j of 8 keys has four,
/// e % 2 the key of two neighbours and e / 2 the query of two that are 8 apart. A word holds eight blocks, two bits of
/// each byte the first query's: so its keys of four blocks are where a word of 32 keys in a row has them.
template <int kKeys>
struct Stays {
  static_assert(kKeys <= 128);
  unsigned words[2];

  __device__ static constexpr int bit_of(int j, int e) { return 8 * (j % 4) + 2 * (j / 4 % 2) + 4 * (e / 2) + e % 2; }
  __device__ bool keeps(int j, int e) const { return (words[j / 8] >> bit_of(j, e) & 1) != 0; }

  __device__ void set(int j, int e, bool stays) {
    words[j / 8] |= unsigned(stays) << (4 * (e / 2) + e % 2) << bit_of(j, 0);
  }
  /// All of a block.
  __device__ void set(int j) { words[j / 8] |= 0x33u << bit_of(j, 0); }

  /// Keys before `begin` or from `end` on, counted from the tile's first one, do not.
  __device__ void remove_outside(int lane, int begin, int end) {
    if (begin <= 0 && end >= kKeys) return;
#pragma unroll
    for (int i = 0; i < kKeys / 32 + (kKeys % 32 != 0); ++i) {
      const int first = 32 * i + lane % 4 * 2;
      const unsigned inside = below(end - first) & ~below(begin - first) & 0x03030303;
      words[i / 2] &= (inside | inside << 4) << 2 * (i % 2) | 0xccccccccu >> 2 * (i % 2);
    }
  }

  /// All of the first query, or of the one 8 behind it.
  __device__ void remove_row(int half) {
    const unsigned others = half == 0 ? 0xf0f0f0f0u : 0x0f0f0f0fu;
    words[0] &= others, words[1] &= others;
  }

 private:
  /// The bits of numbers below n.
  __device__ static unsigned below(int n) { return n >= 32 ? ~0u : (1u << ::max(n, 0)) - 1; }
};

/// What a mask that follows diagonals keeps of a warp's 16 queries by kKeys keys: each lane asks keep(query, key) for
/// an entry of another diagonal, five times where its own entries are 64, and a query's bits are those in a row from
/// the query's place on.
template <int kKeys, class Keep>
__device__ inline Stays<kKeys> stays_along_diagonals(int lane, const Keep& keep) {
  constexpr int kDiagonals = kKeys + 15, kParts = (kKeys + 31) / 32;
  unsigned kept[kParts + 1];  // bit p: diagonals with key - query + 15 = p
#pragma unroll
  for (int i = 0; i <= kParts; ++i) {
    kept[i] = 0;
    if (32 * i < kDiagonals) {
      const int place = 32 * i + lane;
      kept[i] = __ballot_sync(~0u, keep(::max(15 - place, 0), ::min(::max(place - 15, 0), kKeys - 1)));
    }
  }
  Stays<kKeys> stays{{0, 0}};
  const int first = 15 - lane / 4 + lane % 4 * 2;  // the place of the lane's first entry; that 8 queries on is 8 before
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const unsigned of_both = (__funnelshift_r(kept[i], kept[i + 1], first) & 0x03030303) |
                             (__funnelshift_r(kept[i], kept[i + 1], first - 8) & 0x03030303) << 4;
    stays.words[i / 2] |= of_both << 2 * (i % 2);
  }
  return stays;
}

}  // namespace tilewise::cuda
