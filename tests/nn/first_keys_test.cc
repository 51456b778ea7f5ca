// Keys of the first positions, moved along a cache.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "tests/nn/cached_model.h"
#include "tests/refusal.h"

namespace tilewise::nn {
namespace {

TEST(FirstKeys, AreMovedAsIfTheyHadBeenComputedThere) {
  for (const Pairing pairing : {Pairing::halves, Pairing::neighbours}) {
    SmallModel model = wide();
    model.pairing = pairing;
    // Keys of a first layer depend on token and position alone.
    const auto transformer = transformer_of(model);
    const auto tokens = some_tokens(60, model.shape, 16);
    Cached run(transformer, 4);
    const KvSequence sequence = run.cache.start();
    run.step({{sequence, tokens, 0}});
    const TransformerShape& s = model.shape;
    const auto read = [&](std::int64_t first) {
      std::pair<std::vector<float>, std::vector<float>> rows;
      rows.first.resize(static_cast<std::size_t>(s.h_kv * 4 * s.d_qk));
      rows.second.resize(static_cast<std::size_t>(s.h_kv * 4 * s.d_v));
      run.cache.read(sequence, 0, first, Tensor(rows.first.data(), DType::float32, {s.h_kv, 4, s.d_qk}),
                     Tensor(rows.second.data(), DType::float32, {s.h_kv, 4, s.d_v}));
      return rows;
    };
    std::vector<std::int32_t> again = tokens;
    std::copy_n(tokens.begin(), 4, again.begin() + 40);  // the first tokens, 40 positions later
    Cached later(transformer, 4);
    const KvSequence other = later.cache.start();
    later.step({{other, again, 0}});
    std::vector<float> expected(static_cast<std::size_t>(s.h_kv * 4 * s.d_qk)),
        values(static_cast<std::size_t>(s.h_kv * 4 * s.d_v));
    later.cache.read(other, 0, 40, Tensor(expected.data(), DType::float32, {s.h_kv, 4, s.d_qk}),
                     Tensor(values.data(), DType::float32, {s.h_kv, 4, s.d_v}));

    const auto original = read(0);
    FirstKeys keys(transformer, run.cache, sequence, 4);
    keys.move(run.cache, sequence, 25);
    keys.move(run.cache, sequence, 40);
    const auto moved = read(0);
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(moved.first[i], expected[i], 2e-6);
    EXPECT_EQ(moved.second, original.second);
    keys.move(run.cache, sequence, 0);
    EXPECT_EQ(read(0).first, original.first);
  }
}

TEST(FirstKeys, NeedRotaryEmbedding) {
  const SmallModel model = changed([](SmallModel& m) {
    m.shape.is_rotary = false;
    m.has_learned_positions = true;
  });
  Cached run(transformer_of(model), 4);
  const KvSequence sequence = run.cache.start();
  EXPECT_NE(refusal([&] { FirstKeys(run.model, run.cache, sequence, 0); }, ErrorCode::unsupported), "");
}

}  // namespace
}  // namespace tilewise::nn
