// Public plans on a GPU, held to standard attention as the processor's are; and what their calls refuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/attention/zoo_entries.h"
#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tests/refusal.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

class PlansOnGpu : public jit::WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (context_ != nullptr) caller_.emplace(context_);
  }

  std::optional<GpuCaller> caller_;
};

Variant soft_window() {
  return keep([](const At& at) { return abs(at.query - at.key) < 40; }) &
         score([](Expr s, const At&) { return 5 * tanh(s / 5); });
}
const std::vector<std::pair<const char*, Variant>>& variants() {
  static const std::vector<std::pair<const char*, Variant>> all{
      {"plain", {}}, {"causal", zoo::causal()}, {"soft window", soft_window()}};
  return all;
}
constexpr DType kDTypes[] = {DType::bfloat16, DType::float16, DType::float32};

TEST_F(PlansOnGpu, LengthsAtAndAroundTheEdgesOfTiles) {
  const std::int64_t lengths[] = {0, 1, 2, 31, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 257};
  std::mt19937_64 random(7);
  for (const auto& [name, variant] : variants()) {
    Oracle oracle(DType::bfloat16, true, &*caller_);
    for (const std::int64_t s_q : lengths) {
      for (int i = 0; i < 2; ++i) {
        const std::int64_t s_kv = i == 0 ? s_q : lengths[random() % std::size(lengths)];
        oracle.run(variant, uniform(1, 2, 1, s_q, s_kv, 16, 16), {}, random());
      }
    }
    oracle.expect_close(name);
  }
}

TEST_F(PlansOnGpu, HeadsDimensionsAndDTypes) {
  struct Dimensions {
    std::int64_t b, h_q, h_kv, d_qk, d_v;
  };
  const Dimensions all[] = {
      {1, 1, 1, 8, 8}, {2, 3, 3, 40, 16}, {3, 6, 2, 24, 64}, {1, 8, 1, 64, 72}, {1, 2, 2, 128, 128}};
  std::uint64_t seed = 1;
  for (const DType dtype : kDTypes) {
    for (const auto& [b, h_q, h_kv, d_qk, d_v] : all) {
      Oracle oracle(dtype, true, &*caller_);
      oracle.run(zoo::causal(), uniform(b, h_q, h_kv, 61, 117, d_qk, d_v), {}, seed++);
      oracle.run(soft_window(), uniform(b, h_q, h_kv, 61, 117, d_qk, d_v), {}, seed++);
      oracle.expect_close("d_qk " + std::to_string(d_qk) + ", d_v " + std::to_string(d_v));
    }
  }
}

TEST_F(PlansOnGpu, PackedSequencesOffsetsAndLeftPadding) {
  reference::Shape shape{.h_q = 4, .h_kv = 2, .d_qk = 24, .d_v = 16};
  shape.sequences = uneven_sequences();
  for (const auto& [name, variant] : variants()) {
    for (int storage = 0; storage < 8; ++storage) {
      shape.queries_packed = (storage & 1) != 0;
      shape.keys_packed = (storage & 2) != 0;
      shape.heads_inside = (storage & 4) != 0;
      // Sequences share keys here, whose gradients then nobody sums up.
      Oracle oracle(DType::bfloat16, !shape.keys_packed, &*caller_);
      oracle.run(variant, shape, {}, static_cast<std::uint64_t>(storage + 1));
      oracle.expect_close(name);
    }
  }
}

TEST_F(PlansOnGpu, LargestScoresOfHeads) {
  const Variant none = keep([](const At& at) { return at.query_index < 0; });
  for (const DType dtype : kDTypes) {
    for (const Variant& variant : {Variant(), zoo::causal(), soft_window() & zoo::alibi(4), none}) {
      Oracle oracle(dtype, false, &*caller_);
      oracle.max_scores = true;
      for (const std::int64_t s_q : {1, 70, 200})
        oracle.run(variant, uniform(2, 4, 2, s_q, 190, 16, 16), {}, static_cast<std::uint64_t>(s_q));
      oracle.run(variant, uniform(1, 4, 1, 33, 300, 24, 8), {}, 9, -0.3);
      oracle.expect_close(to_string(variant) + ", largest scores");
    }
  }
}

TEST_F(PlansOnGpu, Float32) {
  std::uint64_t seed = 1;
  for (const auto& [d_qk, d_v] : {std::pair{64, 64}, {128, 128}, {192, 128}, {256, 256}, {8, 72}}) {
    for (const auto& [name, variant] : variants()) {
      Oracle oracle(DType::float32, true, &*caller_);
      for (const std::int64_t s_q : {1, 65, 130})
        oracle.run(variant, uniform(1, 2, 1, s_q, 150, d_qk, d_v), {}, seed++);
      oracle.expect_close(std::string(name) + ", d " + std::to_string(d_qk));
      Oracle decoding(DType::float32, false, &*caller_);
      for (const std::int64_t s_q : {1, 5}) decoding.run(variant, uniform(2, 8, 2, s_q, 700, d_qk, d_v), {}, seed++);
      decoding.expect_close(std::string(name) + ", decoding, d " + std::to_string(d_qk));
    }
  }
  reference::Shape packed{.h_q = 4, .h_kv = 2, .d_qk = 40, .d_v = 16};
  packed.sequences = uneven_sequences();
  packed.queries_packed = packed.heads_inside = true;
  Oracle uneven(DType::float32, true, &*caller_);
  uneven.run(zoo::causal(), packed, {}, seed++);
  uneven.expect_close("packed");
  Oracle oracle(DType::float32, true, &*caller_);
  oracle.dropout = 0.3;
  oracle.deviation = 3;
  oracle.run(soft_window() & tilewise::dropout(0.5), uniform(2, 2, 1, 140, 190, 64, 64), {}, seed++);
  oracle.expect_close("dropout");
}

TEST_F(PlansOnGpu, Dropout) {
  for (const double probability : {0.0, 0.1, 0.75, 1.0}) {
    for (const auto& [name, variant] : variants()) {
      Oracle oracle(DType::bfloat16, true, &*caller_);
      oracle.dropout = probability;
      std::uint64_t seed = 1;
      for (const std::int64_t s_q : {1, 70, 131})
        oracle.run(variant & tilewise::dropout(0.5), uniform(2, 2, 1, s_q, 90, 16, 16), {}, seed++);
      oracle.expect_close(std::string(name) + ", dropout");
    }
  }
}

TEST_F(PlansOnGpu, GradientsOfTablesParametersAndSinks) {
  const Table bias("bias", DType::float32, 2), by_distance("by_distance", DType::float16, 1),
      pairs("pairs", DType::float32, 3);
  const Parameter cap("cap", 1, 100);
  const std::vector<std::pair<const char*, Variant>> all{
      {"a cell for each entry",
       score([&](Expr s, const At& at) { return s + pairs(at.head, at.query_index, at.key_index); })},
      {"along the keys", zoo::causal() & score([&](Expr s, const At& at) { return s * bias(at.head, at.key_index); })},
      {"along the queries", score([&](Expr s, const At& at) { return s * bias(at.head, at.query_index); })},
      // Not clamped: an element that sums over whole rows, whose gradients cancel, shows o's rounding alone
      // (docs/decisions/gradients.md).
      {"along diagonals",
       score([&](Expr s, const At& at) { return s + by_distance(at.query_index - at.key_index + 89); })},
      {"a parameter", score([&](Expr s, const At&) { return cap * tanh(s / cap); })},
      {"a sink", zoo::causal() & zoo::attention_sink()},
      {"several stages", score([&](Expr s, const At& at) { return s + bias(at.head, at.key_index); }) & zoo::causal() &
                             score([&](Expr s, const At&) { return cap * tanh(s / cap); })}};
  for (const auto& [name, variant] : all) {
    Oracle oracle(DType::bfloat16, true, &*caller_);
    for (std::uint64_t seed = 1; seed < 4; ++seed) {
      const reference::Shape shape = uniform(2, 4, 2, 70, 90, 16, 16);
      oracle.run(variant, shape, bind_random(variant, problem_of(shape), seed), seed);
    }
    oracle.expect_close(name);
  }
}

// Warps have pieces of their own of each, and several tiles and blocks add to one element.
TEST_F(PlansOnGpu, GradientsOfTablesOverManyTiles) {
  const Table of_queries("of_queries", DType::float32, 2), of_keys("of_keys", DType::float32, 2),
      by_distance("by_distance", DType::float32, 2);
  const Parameter temperature("temperature", 0.5, 2);
  const std::vector<std::pair<const char*, Variant>> all{
      {"queries", score([&](Expr s, const At& at) { return s * of_queries(at.head, at.query_index); })},
      {"keys", score([&](Expr s, const At& at) { return s * of_keys(at.head, at.key_index); }) & zoo::causal()},
      {"diagonals",
       zoo::causal() & score([&](Expr s, const At& at) { return s * by_distance(at.head, at.query - at.key); })},
      {"all of them", score([&](Expr s, const At& at) {
         return temperature * s +
                s * of_queries(at.head, at.query_index) * by_distance(at.head, at.query - at.key + 330) +
                s * of_keys(at.kv_head, at.key_index);
       })}};
  for (const auto& [d_qk, d_v] : {std::pair{64, 64}, {128, 128}, {200, 72}}) {
    for (const auto& [name, variant] : all) {
      Oracle oracle(DType::bfloat16, true, &*caller_);
      const reference::Shape shape = uniform(1, 4, 2, 300, 330, d_qk, d_v);
      oracle.run(variant, shape, bind_random(variant, problem_of(shape), 1), 1);
      oracle.expect_close(name);
    }
  }
}

TEST_F(PlansOnGpu, OutliersAndScales) {
  for (const auto& [name, variant] : variants()) {
    for (const double scale : {0.25, -0.25, 0.0, 3.0}) {
      Oracle oracle(DType::bfloat16, true, &*caller_);
      for (std::uint64_t seed = 1; seed < 4; ++seed)
        oracle.run(variant, uniform(1, 2, 2, 70, 131, 16, 16), {}, seed, scale);
      oracle.expect_close(std::string(name) + ", scale " + std::to_string(scale));
    }
  }
}

TEST_F(PlansOnGpu, LongCachesInManySplits) {
  const Variant sunk = zoo::causal() & sink([](const At& at) { return to_real(at.head) - 1; });
  const Variant by_head = zoo::causal() & keep([](const At& at) { return at.head != 1 || at.key % 2 == 0; });
  for (const DType dtype : kDTypes) {
    for (const Variant& variant : {Variant(), zoo::causal(), soft_window(), zoo::alibi(8), sunk, by_head}) {
      Oracle oracle(dtype, false, &*caller_);
      for (const auto& [h_q, h_kv] : {std::pair{8, 2}, {8, 8}, {8, 1}}) {
        for (const std::int64_t s_q : {1, 2, 7, 16})
          oracle.run(variant, uniform(2, h_q, h_kv, s_q, 2500, 64, 32), {}, static_cast<std::uint64_t>(s_q));
      }
      oracle.run(variant, uniform(3, 8, 2, 1, 65, 64, 32), {}, 1);
      oracle.run(variant, uniform(3, 8, 2, 1, 0, 64, 32), {}, 1);
      oracle.expect_close("decoding " + to_string(variant));
      if (dtype == DType::float16) break;  // the rest does not depend on it
    }
  }
}

TEST_F(PlansOnGpu, DecodingKnowsLengthsAndLeftPadding) {
  reference::Shape shape{.h_q = 6, .h_kv = 2, .d_qk = 128, .d_v = 128};
  shape.sequences = {{.s_q = 1, .s_kv = 1300}, {.s_q = 4, .s_kv = 300}, {.s_q = 2, .s_kv = 777, .key_start = 521},
                     {.s_q = 0, .s_kv = 50},   {.s_q = 3, .s_kv = 0},   {.s_q = 1, .s_kv = 9, .key_start = 9}};
  for (const auto& [name, variant] : variants()) {
    Oracle oracle(DType::bfloat16, false, &*caller_);
    oracle.run(variant, shape, {}, 1);
    oracle.expect_close(std::string("decoding ") + name);
  }
}

// Lists that the plan keeps, walks that begin in their midst, tiles that leave nothing to some of a block's queries,
// and rows far longer than most, which are taken first. Two heads: the oracle is slow.
TEST_F(PlansOnGpu, SparseMasksOverManyTiles) {
  for (const std::int64_t d : {16, 72}) {
    Oracle oracle(DType::bfloat16, true, &*caller_);
    for (const Variant& variant :
         {zoo::bigbird(64, 1, 1, 0, 1600, 1), zoo::bigbird(64, 3, 1, 2, 1600, 2), zoo::window(300),
          zoo::documents({500, 50, 700, 1, 249}), zoo::documents({300, 400, 800}) & zoo::causal()})
      oracle.run(variant, uniform(1, 2, 1, 1600, 1600, d, d), {}, 1);
    oracle.expect_close("sparse masks");
  }
}

struct Zoo : PlansOnGpu, ::testing::WithParamInterface<const zoo::Entry*> {};

TEST_P(Zoo, IsClose) {
  // One pair of dimensions for all, since every other one is other kernels.
  expect_close(*GetParam(), DType::bfloat16, {{{16, 8}, {16, 8}, {16, 8}, {16, 8}, {16, 8}}}, &*caller_);
}
INSTANTIATE_TEST_SUITE_P(All, Zoo, ::testing::ValuesIn(all_entries()),
                         [](const auto& of) { return std::string(of.param->name); });

// ---- what calls refuse ----

template <class Call>
void expect_refusal(ErrorCode code, std::initializer_list<std::string> parts, Call call) {
  const std::string message = refusal(call, code);
  EXPECT_FALSE(message.empty()) << "nothing was refused; expected an error about " << *parts.begin();
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

PlanShape usual_shape() {
  return {
      .dtype = DType::bfloat16, .h_q = 2, .h_kv = 2, .d_qk = 16, .d_v = 16, .s_q = 32, .s_kv = 32, .backward = true};
}

TEST_F(PlansOnGpu, RefuseMemoryThatTheyCannotReach) {
  const Plan plan = Attention(zoo::causal()).plan(usual_shape(), Device::cuda());
  reference::AttentionData data(uniform(1, 2, 2, 32, 32, 16, 16), 1, DType::bfloat16, DType::float32);
  Workspace workspace(plan.workspace_bytes(), Device::cuda());
  GpuCopies copies(context_);
  const ForwardInputs inputs = copies.in(data.inputs);
  const Tensor o = copies.out(data.o.tensor()), lse = copies.out(data.lse.tensor());
  const auto refuse = [&](const std::string& message, auto change) {
    ForwardInputs bad_inputs = inputs;
    ForwardOutputs bad_outputs{.o = o};
    change(bad_inputs, bad_outputs);
    expect_refusal(ErrorCode::invalid_argument, {message}, [&] { plan.forward(bad_inputs, bad_outputs, workspace); });
  };
  refuse("q lies in the host's memory", [&](ForwardInputs& bad, ForwardOutputs&) { bad.q = data.inputs.q; });
  refuse("v lies in the host's memory", [&](ForwardInputs& bad, ForwardOutputs&) { bad.v = data.inputs.v; });
  refuse("o lies in the host's memory", [&](ForwardInputs&, ForwardOutputs& bad) { bad.o = data.o.tensor(); });
  refuse("o shares memory with q", [&](ForwardInputs& bad, ForwardOutputs&) {
    bad.q = ConstTensor(o.data, DType::bfloat16, {1, 2, 32, 16});
  });
  refuse("expected a multiple of 2",
         [&](ForwardInputs& bad, ForwardOutputs&) { bad.k.data = static_cast<const std::byte*>(bad.k.data) + 1; });
  refuse("lse has dtype float64; expected float32", [&](ForwardInputs&, ForwardOutputs& bad) {
    bad.lse = Tensor(lse.data, DType::float64, {1, 2, 32});
  });
  Workspace on_host(plan.workspace_bytes());
  expect_refusal(ErrorCode::invalid_argument, {"workspace lies on cpu", "cuda:0"},
                 [&] { plan.forward(inputs, {.o = o}, on_host); });
  plan.forward(inputs, {.o = o}, workspace);  // nothing of that did harm
  copies.copy_back();
}

TEST_F(PlansOnGpu, SayThatThereIsNoSuchGpuOrNotEnoughMemory) {
  expect_refusal(ErrorCode::device, {"GPU 63"}, [] { Attention().plan(usual_shape(), Device::cuda(63)); });
  expect_refusal(ErrorCode::out_of_memory, {"memory"}, [] { Workspace(std::int64_t{1} << 50, Device::cuda()); });
  PlanShape shape = usual_shape();
  shape.d_qk = 12;
  expect_refusal(ErrorCode::unsupported, {"cuda:0", "d_qk is 12"}, [&] { Attention().plan(shape, Device::cuda()); });
  shape = usual_shape();
  shape.dtype = DType::float64;
  expect_refusal(ErrorCode::unsupported, {"cuda:0", "float64"}, [&] { Attention().plan(shape, Device::cuda()); });
}

TEST_F(PlansOnGpu, RowsThatAreNotAligned) {
  const Plan plan = Attention(zoo::causal()).plan(usual_shape(), Device::cuda());
  reference::AttentionData data(uniform(1, 2, 2, 32, 32, 16, 16), 1, DType::bfloat16, DType::float32);
  // The same tensors one element further on, where rows begin at odd multiples of 2 bytes.
  const auto shifted = [&](const reference::Array& array) {
    std::vector<std::byte> moved(static_cast<std::size_t>(2 * array.size() + 2));
    std::memcpy(moved.data() + 2, array.view().data, static_cast<std::size_t>(2 * array.size()));
    return moved;
  };
  const std::vector<std::byte> q = shifted(data.q), k = shifted(data.k), v = shifted(data.v);
  const auto on_gpu = [&](const std::vector<std::byte>& bytes) { return cuda::DeviceMemory::of(context_, bytes); };
  const cuda::DeviceMemory q_memory = on_gpu(q), k_memory = on_gpu(k), v_memory = on_gpu(v);
  const auto view = [](const cuda::DeviceMemory& memory, const reference::Array& array) {
    ConstTensor tensor = array.view();
    tensor.data = memory.as<std::byte>() + 2;
    return tensor;
  };
  GpuCopies copies(context_);
  std::vector<std::byte> odd(static_cast<std::size_t>(2 * data.o.size())), even(odd.size());
  Tensor o_odd = data.o.tensor(), o_even = data.o.tensor();
  o_odd.data = odd.data(), o_even.data = even.data();
  plan.forward({.q = view(q_memory, data.q), .k = view(k_memory, data.k), .v = view(v_memory, data.v)},
               {.o = copies.out(o_odd)});
  plan.forward(copies.in(data.inputs), {.o = copies.out(o_even)});
  copies.copy_back();
  EXPECT_EQ(odd, even);
}

}  // namespace
}  // namespace tilewise::attention::testing
