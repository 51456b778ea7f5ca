// Keys and values from pages and in int8: the bits of storage in one piece, and the oracle's values.
#include "tests/attention/cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/refusal.h"
#include "tilewise/error.h"
#include "tilewise/reference.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

using namespace zoo;  // NOLINT(google-build-using-namespace): these tests are of named variants
using reference::Array;
using reference::AttentionData;
using reference::Shape;

/// A batch in which some sequences are prompts and some are decoded; with padding at its left, and an empty one.
Shape mixed(std::int64_t d_qk, std::int64_t d_v) {
  return {.h_q = 4,
          .h_kv = 2,
          .d_qk = d_qk,
          .d_v = d_v,
          .sequences = {{.s_q = 1, .s_kv = 1300},
                        {.s_q = 130, .s_kv = 300},
                        {.s_q = 5, .s_kv = 77, .key_start = 21},
                        {.s_q = 40, .s_kv = 40, .key_start = 7},
                        {.s_q = 3, .s_kv = 0}}};
}

std::vector<Variant> variants() {
  return {Variant(), causal(), window(50), causal() & softcap(20.0f),
          causal() & attention_sink(Table::frozen("sinks", [] {
            static const float kSinks[4] = {0.5f, -1, 2, 0};
            return ConstTensor(kSinks, DType::float32, {4});
          }()))};
}

struct Result {
  Array o, lse;

  bool same_bits(const Result& other) const {
    const auto same = [](const Array& a, const Array& b) {
      for (std::int64_t i = 0; i < a.size(); ++i) {
        const double x = a.get(i), y = b.get(i);
        if (std::memcmp(&x, &y, sizeof x) != 0) return false;
      }
      return true;
    };
    return same(o, other.o) && same(lse, other.lse);
  }
};

PlanShape plan_of(const Shape& shape, DType dtype, bool is_int8) {
  PlanShape plan = plan_shape(shape, dtype, false, {});
  if (is_int8) plan.kv_dtype = DType::int8;
  plan.query_tokens.reset(), plan.key_tokens.reset();
  return plan;
}

Result run(const Plan& plan, const ForwardInputs& inputs, const AttentionData& data) {
  Result result{data.o, data.lse};
  for (Array* array : {&result.o, &result.lse}) array->fill(-768);
  plan.forward(inputs, {.o = result.o.tensor(), .lse = result.lse.tensor()});
  return result;
}

TEST(Caches, InPagesGiveTheBitsOfOnePiece) {
  struct Storage {
    DType dtype;
    bool is_int8;
  };
  for (const auto& [dtype, is_int8] : {Storage{DType::float32, false},
                                       {DType::bfloat16, false},
                                       {DType::float16, false},
                                       {DType::float32, true},
                                       {DType::bfloat16, true}}) {
    for (const std::int64_t d : {64, 9}) {
      const Shape shape = mixed(d, d + 7);
      const AttentionData data(shape, 5, dtype, DType::float32);
      std::vector<Plan> plans;
      for (const Variant& variant : variants())
        plans.push_back(Attention(variant).plan(plan_of(shape, dtype, is_int8)));
      for (const std::int64_t page_tokens : {1, 3, 16, 64, 500}) {
        for (const bool tokens_outside : {false, true}) {
          const Cache cache(data, is_int8, {page_tokens, tokens_outside}, 3);
          for (const Plan& plan : plans) {
            ASSERT_TRUE(run(plan, cache.paged, data).same_bits(run(plan, cache.whole, data)))
                << to_string(plan.variant()) << ", " << to_string(dtype) << (is_int8 ? ", int8" : "") << ", d " << d
                << ", pages of " << page_tokens << (tokens_outside ? ", tokens outside of heads" : "");
          }
        }
      }
    }
  }
}

TEST(Caches, OfInt8AreCloseToTheOracle) {
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    for (const Variant& variant : variants()) {
      Errors o, lse;
      for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        const Shape shape = mixed(32, 24);
        AttentionData data(shape, seed, dtype, DType::float32), usual = data;
        AttentionData exact(shape, seed, DType::float64, DType::float64);
        const Cache cache(data, true, {}, seed);
        const Result found = run(Attention(variant).plan(plan_of(shape, dtype, true)), cache.paged, data);
        standard_attention(variant, cache.whole, usual.outputs(), dtype);
        standard_attention(variant, cache.paged, exact.outputs());
        data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
          for (std::int64_t c = 0; c < shape.d_v; ++c)
            o.add(exact.at_query(exact.o, i, head, row, c), data.at_query(found.o, i, head, row, c),
                  usual.at_query(usual.o, i, head, row, c));
          lse.add(exact.at_query(exact.lse, i, head, row), data.at_query(found.lse, i, head, row),
                  usual.at_query(usual.lse, i, head, row));
        });
      }
      const double epsilon = dtype == DType::float32 ? 0x1p-23 : 0x1p-7;
      EXPECT_LE(o.largest, 2 * o.usual_largest + 2 * epsilon * o.magnitude) << to_string(variant);
      EXPECT_LE(std::sqrt(o.square), 2 * std::sqrt(o.usual_square) + 2 * epsilon * o.magnitude) << to_string(variant);
      EXPECT_LE(lse.largest, 2 * lse.usual_largest + 2 * 0x1p-23 * lse.magnitude) << to_string(variant);
    }
  }
}

TEST(Caches, AreReadByTheReferenceToo) {
  const Shape shape = mixed(8, 5);
  const AttentionData data(shape, 2, DType::float32, DType::float64);
  for (const bool is_int8 : {false, true}) {
    const Cache cache(data, is_int8, {.page_tokens = 3}, 4);
    AttentionData whole = data, paged = data;
    for (AttentionData* to : {&whole, &paged}) to->o.fill(0), to->lse.fill(0);
    standard_attention(causal(), cache.whole, whole.outputs());
    standard_attention(causal(), cache.paged, paged.outputs());
    EXPECT_TRUE((Result{whole.o, whole.lse}.same_bits({paged.o, paged.lse})));
  }
}

TEST(Caches, MayHaveHolesThatNobodySees) {
  // A window of 50 sees keys 251 to 300 of 300 and 1251 on of 1300; pages of 16.
  Shape shape = mixed(16, 16);
  shape.sequences = {{.s_q = 1, .s_kv = 1300}, {.s_q = 130, .s_kv = 1300}, {.s_q = 8, .s_kv = 1299}};
  for (const bool is_int8 : {false, true}) {
    const AttentionData data(shape, 5, DType::float32, DType::float32);
    CacheLayout layout;
    for (std::int64_t page = 0; page < 70; ++page) layout.holes.push_back(page);
    const Cache cache(data, is_int8, layout, 3);
    for (const Variant& variant : {window(50), window(50) & softcap(10.0f)}) {
      const Plan plan = Attention(variant).plan(plan_of(shape, DType::float32, is_int8));
      EXPECT_TRUE(run(plan, cache.paged, data).same_bits(run(plan, cache.whole, data)));
    }
    // Holes between what is seen: the first tokens and a window.
    layout.holes.erase(layout.holes.begin());
    const Cache streaming(data, is_int8, layout, 3);
    const Plan plan = Attention(streaming_llm(4, 50)).plan(plan_of(shape, DType::float32, is_int8));
    EXPECT_TRUE(run(plan, streaming.paged, data).same_bits(run(plan, streaming.whole, data)));
  }
}

TEST(Caches, HaveNoHoleThatAnEntryNeeds) {
  const Shape shape = uniform(2, 4, 2, 3, 300, 8, 8);
  const AttentionData data(shape, 5, DType::float32, DType::float32);
  const auto refused = [&](const Variant& variant, std::vector<std::int64_t> holes, ErrorCode code) {
    const Cache cache(data, false, {.page_tokens = 16, .holes = std::move(holes)}, 3);
    Array o = data.o;
    o.fill(5);
    const ForwardOutputs outputs{.o = o.tensor()};
    const Plan plan = Attention(variant).plan(plan_of(shape, DType::float32, false));
    const std::string message = refusal([&] { plan.forward(cache.paged, outputs); }, code);
    for (std::int64_t i = 0; i < o.size() && !message.empty(); ++i) EXPECT_EQ(o.get(i), 5);
    if (code == ErrorCode::invalid_argument) {
      EXPECT_EQ(refusal([&] { standard_attention(variant, cache.paged, outputs); }).substr(0, 22),
                message.substr(0, 22));
    }
    return message;
  };
  EXPECT_EQ(refused(Variant(), {3}, ErrorCode::invalid_argument),
            "block_table[0, 3] is -1, a hole, but query index 0 of head 0 keeps key index 48; expected the page, or a "
            "variant that keeps no entry of it");
  // Query 0 stands at 297 and sees keys from 248 on: page 15 holds keys 240 to 255.
  EXPECT_NE(refused(window(50), {14, 15}, ErrorCode::invalid_argument)
                .find("block_table[0, 15] is -1, a hole, but query index 0 of head 0 keeps key index 2"),
            std::string::npos);
  EXPECT_EQ(refused(window(50), {14}, ErrorCode::invalid_argument), "");
  // Only the last head sees so far.
  const Variant by_head = keep([](const At& at) { return at.query - at.key < 16 * (at.head + 1); });
  EXPECT_NE(refused(by_head, {14}, ErrorCode::invalid_argument)
                .find("block_table[0, 14] is -1, a hole, but query index 0 of head 3 keeps key index 23"),
            std::string::npos);
  // Whether a score is masked that depends on the score itself cannot be told from positions.
  const Variant by_score = score([](Expr s, const At&) { return select(s > 0, s, -INFINITY); });
  EXPECT_NE(refused(by_score, {2}, ErrorCode::unsupported).find("it cannot be shown that head 0 keeps none"),
            std::string::npos);
}

TEST(Caches, SharePagesBetweenSequences) {
  Shape shape = uniform(3, 4, 2, 2, 200, 16, 16);
  AttentionData data(shape, 5, DType::float32, DType::float32);
  for (std::int64_t head = 0; head < 2; ++head) {  // the first 128 tokens alike
    for (std::int64_t row = 0; row < 128; ++row) {
      for (std::int64_t c = 0; c < 16; ++c) {
        for (std::int64_t i = 1; i < 3; ++i) {
          data.k.set(data.k.place(i, head, row, 0, c), data.k.get(data.k.place(0, head, row, 0, c)));
          data.v.set(data.v.place(i, head, row, 0, c), data.v.get(data.v.place(0, head, row, 0, c)));
        }
      }
    }
  }
  Cache cache(data, true, {}, 3);
  const std::size_t width = cache.table.size() / 3;
  for (std::size_t i = 1; i < 3; ++i)
    std::copy_n(cache.table.begin(), 8, cache.table.begin() + static_cast<std::ptrdiff_t>(i * width));
  const Plan plan = Attention(causal()).plan(plan_of(shape, DType::float32, true));
  EXPECT_TRUE(run(plan, cache.paged, data).same_bits(run(plan, cache.whole, data)));
}

TEST(Caches, GiveTheSameBitsOnAnyThreadsAndInAnyBatch) {
  const Shape shape = mixed(32, 32);
  const AttentionData data(shape, 5, DType::float32, DType::float32);
  const Cache cache(data, true, {}, 3);
  const auto one = make_thread_pool(1), three = make_thread_pool(3);
  const PlanShape plan_shape = plan_of(shape, DType::float32, true);
  const Result expected = run(Attention(causal()).plan(plan_shape, Device::cpu(*one)), cache.paged, data);
  EXPECT_TRUE(run(Attention(causal()).plan(plan_shape, Device::cpu(*three)), cache.paged, data).same_bits(expected));

  // Each sequence alone, in a plan for longer ones.
  PlanShape longer = plan_shape;
  longer.s_kv = 5000, longer.s_q = 200, longer.b = 1;
  const Plan plan = Attention(causal()).plan(longer);
  for (std::int64_t i = 0; i < data.b(); ++i) {
    ForwardInputs inputs = cache.paged;
    const auto only = [i](const auto& tensor) {
      auto view = tensor;
      using Byte = std::conditional_t<std::is_same_v<decltype(view), Tensor>, char, const char>;
      view.data = static_cast<Byte*>(view.data) + i * view.strides[0] * size_of(view.dtype);
      view.extents[0] = 1;
      return view;
    };
    inputs.q = only(inputs.q);
    inputs.block_table = only(*inputs.block_table);
    inputs.sequences = {shape.sequences[static_cast<std::size_t>(i)]};
    Result alone = expected;
    plan.forward(inputs, {.o = only(alone.o.tensor()), .lse = only(alone.lse.tensor())});
    EXPECT_TRUE(alone.same_bits(expected)) << "sequence " << i;
  }
}

TEST(Caches, AreDecodedByPlansForTrainingToo) {
  const Shape shape = uniform(2, 4, 2, 2, 3000, 32, 32);
  const AttentionData data(shape, 5, DType::float32, DType::float32);
  PlanShape training = plan_of(shape, DType::float32, false), inference = training;
  training.backward = true;
  const auto o_of = [&](const PlanShape& plan) {
    Result result{data.o, data.lse};
    Attention(causal()).plan(plan).forward(data.inputs, {.o = result.o.tensor()});
    return result;
  };
  EXPECT_TRUE(o_of(training).same_bits(o_of(inference)));
  // From pages, which have no backward pass, whatever is asked for.
  const Cache cache(data, false, {}, 3);
  EXPECT_TRUE(run(Attention(causal()).plan(training), cache.paged, data)
                  .same_bits(run(Attention(causal()).plan(inference), cache.paged, data)));
}

}  // namespace
}  // namespace tilewise::attention::testing
