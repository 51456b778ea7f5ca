// Lengths, heads, head dimensions, storage and dropout, on a few variants.
#include <gtest/gtest.h>

#include <random>

#include "tests/attention/oracle.h"
#include "tests/reference/attention_cases.h"

namespace tilewise::attention::testing {
namespace {

constexpr DType kDTypes[] = {DType::float32, DType::bfloat16, DType::float16};

Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}
Variant soft_window() {
  return keep([](const At& at) { return abs(at.query - at.key) < 40; }) &
         score([](Expr s, const At&) { return 5 * tanh(s / 5); });
}
const std::vector<std::pair<const char*, Variant>>& variants() {
  static const std::vector<std::pair<const char*, Variant>> all{
      {"plain", {}}, {"causal", causal()}, {"soft window", soft_window()}};
  return all;
}

class Shapes : public ::testing::TestWithParam<DType> {};

TEST_P(Shapes, LengthsAtAndAroundTheEdgesOfTiles) {
  // Strips have 24 or 48 queries, tiles 96 or 128 keys and 192 or 384 queries.
  const std::int64_t lengths[] = {0, 1, 2, 23, 24, 25, 47, 49, 95, 97, 127, 128, 129, 191, 193, 383, 385, 401};
  std::mt19937_64 random(7);
  for (const auto& [name, variant] : variants()) {
    Oracle oracle(GetParam(), true);
    for (const std::int64_t s_q : lengths) {
      for (int i = 0; i < 2; ++i) {
        const std::int64_t s_kv = i == 0 ? s_q : lengths[random() % std::size(lengths)];
        oracle.run(variant, uniform(1, 2, 1, s_q, s_kv, 8, 8), {}, random());
      }
    }
    oracle.expect_close(name);
  }
}

TEST_P(Shapes, HeadsAndDimensions) {
  struct Dimensions {
    std::int64_t b, h_q, h_kv, d_qk, d_v;
  };
  const Dimensions all[] = {{1, 1, 1, 1, 1},    {2, 3, 3, 7, 13},    {3, 6, 2, 17, 5},   {1, 8, 1, 40, 64},
                            {1, 2, 2, 128, 33}, {1, 1, 1, 192, 128}, {1, 2, 1, 257, 72}, {1, 1, 1, 576, 512}};
  std::uint64_t seed = 1;
  for (const auto& [b, h_q, h_kv, d_qk, d_v] : all) {
    Oracle oracle(GetParam(), true);
    for (int i = 0; i < 2; ++i) {
      oracle.run(causal(), uniform(b, h_q, h_kv, 61, 117, d_qk, d_v), {}, seed++);
      oracle.run(soft_window(), uniform(b, h_q, h_kv, 61, 117, d_qk, d_v), {}, seed++);
    }
    oracle.expect_close("d_qk " + std::to_string(d_qk) + ", d_v " + std::to_string(d_v));
  }
}

TEST_P(Shapes, PackedSequencesOffsetsAndLeftPadding) {
  reference::Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 12, .d_v = 16};
  shape.sequences = uneven_sequences();
  for (const auto& [name, variant] : variants()) {
    for (int storage = 0; storage < 8; ++storage) {
      shape.queries_packed = (storage & 1) != 0;
      shape.keys_packed = (storage & 2) != 0;
      shape.heads_inside = (storage & 4) != 0;
      Oracle oracle(GetParam(), true);
      for (std::uint64_t seed = 1; seed < 4; ++seed) oracle.run(variant, shape, {}, seed);
      oracle.expect_close(name);
    }
  }
}

TEST_P(Shapes, Dropout) {
  for (const double probability : {0.0, 0.1, 0.75, 1.0}) {
    for (const auto& [name, variant] : variants()) {
      Oracle oracle(GetParam(), true);
      oracle.dropout = probability;
      std::uint64_t seed = 1;
      for (const std::int64_t s_q : {1, 5, 70, 131})
        oracle.run(variant & tilewise::dropout(0.5), uniform(2, 2, 1, s_q, 90, 16, 16), {}, seed++);
      oracle.expect_close(std::string(name) + ", dropout");
    }
  }
}

TEST_P(Shapes, OutliersAndScales) {
  for (const auto& [name, variant] : variants()) {
    for (const double scale : {0.25, -0.25, 0.0, 3.0}) {
      Oracle oracle(GetParam(), true);
      for (std::uint64_t seed = 1; seed < 4; ++seed)
        oracle.run(variant, uniform(1, 2, 2, 70, 131, 16, 16), {}, seed, scale);
      oracle.expect_close(std::string(name) + ", scale " + std::to_string(scale));
    }
    Oracle oracle(GetParam(), true);
    oracle.deviation = 5;
    for (std::uint64_t seed = 1; seed < 4; ++seed) oracle.run(variant, uniform(1, 2, 2, 70, 131, 64, 16), {}, seed);
    oracle.expect_close(std::string(name) + ", large q and k");
  }
}

TEST_P(Shapes, LongCachesInManySplits) {
  const Variant sunk = causal() & sink([](const At& at) { return to_real(at.head) - 1; });
  for (const Variant& variant : {causal(), soft_window(), sunk}) {
    Oracle oracle(GetParam(), false);
    for (const std::int64_t s_q : {1, 2, 7, 8})
      oracle.run(variant, uniform(2, 8, 2, s_q, 2500, 64, 32), {}, static_cast<std::uint64_t>(s_q));
    oracle.expect_close("decoding");
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, Shapes, ::testing::ValuesIn(kDTypes),
                         [](const auto& of) { return std::string(to_string(of.param)); });

}  // namespace
}  // namespace tilewise::attention::testing
