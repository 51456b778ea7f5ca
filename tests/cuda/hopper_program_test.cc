// The kernels for compute capability 9.0 compiled, and what the assembler says of them.
#include "cuda/launch/hopper_program.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/launch/kernel_text.h"
#include "tests/jit/support.h"
#include "tilewise/zoo.h"
#include "variant/graph.h"

namespace tilewise::cuda {
namespace {

const jit::Architecture kArchitecture = jit::Architecture::parse("sm_90a");
const Multiprocessor kHopper = Multiprocessor::of(kArchitecture);

struct Named {
  const char* name;
  Variant variant;
  /// The most that a kernel may spill, in bytes a thread. A bias of its own for each entry is loaded well ahead. Where
  /// diagonals are kept, forward, two are put aside for a piece of work, or for a tile that a mask cuts.
  int forward_stack_bytes = 0, backward_stack_bytes = 0;
};

Variant twelve_operations() {
  return score([](Expr s, const At& at) {
    const Expr distance = to_real(at.query - at.key) * 0.01;
    return s * 0.9 + tanh(s * 0.3) - max(distance * distance, 2.0) * 0.5 + to_real(at.key) * 0.001;
  });
}

std::vector<Named> sample() {
  return {{"full", Variant()},
          {"causal", zoo::causal()},
          {"window", zoo::window(1024)},
          {"documents", zoo::documents({300, 500, 224})},
          {"BigBird", zoo::bigbird(64, 3, 2, 3, 16384, 1)},
          {"prefix", zoo::prefix_lm(256)},
          {"blocks, causal", zoo::block_causal(64)},
          {"Longformer", zoo::longformer(512, 16)},
          {"sinks and window", zoo::streaming_llm(4, 252)},
          {"softcap", zoo::softcap(30)},
          {"softcap and causal", zoo::softcap(30) & zoo::causal(), 0, 8},
          {"alibi", zoo::alibi(16)},
          {"alibi and window", zoo::alibi(16) & zoo::window(1024), 8, 24},
          {"softcap of alibi", zoo::alibi(16) & zoo::softcap(30), 0, 8},
          {"T5", zoo::t5_buckets()},
          {"relative position", zoo::relative_position(128), 8},
          {"temperature", zoo::temperature(1.5)},
          {"Llama 4", zoo::llama4_temperature()},
          {"log n", zoo::log_n_scaling(1024)},
          {"dense bias", zoo::dense_bias(), 24, 8},
          {"learned bias", zoo::learned_bias(), 16, 8},
          {"pair bias", zoo::pair_bias(), 16, 8},
          {"sandwich", zoo::sandwich(16), 0, 16},
          {"twelve operations", twelve_operations(), 8}};
}

class HopperProgram : public jit::WithNvrtc {
 protected:
  /// C7508: setmaxnreg was ignored. C7510 to C7517 and C7520: products wait for each other. C7519 is harmless: an
  /// instruction that the source leaves out was put in.
  jit::Binary compile(const jit::Program& program) {
    jit::Binary binary = nvrtc_->compile(program);
    for (const char* remark :
         {"warning", "C7508", "C7510", "C7511", "C7512", "C7513", "C7514", "C7515", "C7517", "C7520"}) {
      EXPECT_EQ(binary.log.find(remark), std::string::npos) << binary.log;
    }
    return binary;
  }
  jit::Resources compile(const jit::Program& program, const char* kernel) {
    return compile(program).kernel(kernel).resources.value();
  }

  void expect_no_spills(int d, DType dtype) {
    for (const Named& one : sample()) {
      SCOPED_TRACE(one.name);
      ForwardShape shape;
      shape.dtype = dtype;
      shape.d_qk = shape.d_v = d;
      const auto& stages = one.variant.data().stages;
      shape.has_lists = std::any_of(stages.begin(), stages.end(),
                                    [](const auto& stage) { return stage.kind == variant::Stage::Kind::keep; });
      EXPECT_LE(forward(one.variant, shape).stack_bytes, one.forward_stack_bytes);
      EXPECT_LE(backward(one.variant, shape).stack_bytes, one.backward_stack_bytes);
      if (!takes_small_parts(shape, changes_scores(one.variant))) continue;
      shape.has_small_parts = true;
      EXPECT_LE(forward(one.variant, shape).stack_bytes, one.forward_stack_bytes);
    }
  }

  jit::Resources forward(const Variant& variant, const ForwardShape& shape) {
    const ScoreWork scores = score_work(variant, hopper_text(variant, shape, false));
    const HopperForwardPlan plan = hopper_forward_candidates(shape, scores, kHopper).front();
    const jit::Resources resources = compile(
        hopper_forward_program(variant, hopper_text(variant, shape, false), shape, plan, kArchitecture), "forward");
    // What setmaxnreg shares out: fewer registers at the launch would leave consumers waiting for ever.
    EXPECT_EQ(resources.registers, plan.launch_registers());
    EXPECT_EQ(resources.shared_bytes, 0);
    return resources;
  }

  jit::Resources backward(const Variant& variant, const ForwardShape& shape) {
    const HopperBackwardPlan plan =
        hopper_backward_candidates(shape, changes_scores(variant), kHopper, gradient_slots(variant, shape)).front();
    const jit::Resources resources = compile(
        hopper_backward_program(variant, hopper_text(variant, shape, true), shape, plan, kArchitecture), "backward");
    EXPECT_EQ(resources.registers, 168);
    EXPECT_EQ(resources.shared_bytes, 0);
    return resources;
  }
};

TEST_F(HopperProgram, NothingSpillsAtD64) { expect_no_spills(64, DType::float16); }
TEST_F(HopperProgram, NothingSpillsAtD128) { expect_no_spills(128, DType::bfloat16); }

TEST_F(HopperProgram, NothingSpillsInShortSequences) {
  ForwardShape shape;
  shape.d_qk = shape.d_v = 64;
  shape.short_keys = 512;
  EXPECT_EQ(forward(Variant(), shape).stack_bytes, 0);
  shape.has_lists = true;
  for (const Variant& variant : {zoo::causal(), zoo::window(1024)}) EXPECT_EQ(forward(variant, shape).stack_bytes, 0);
}

TEST_F(HopperProgram, NothingSpillsWhereSomeRowsAreLong) {
  for (const int d : {64, 128}) {
    ForwardShape shape;
    shape.d_qk = shape.d_v = d;
    shape.has_lists = shape.has_long_rows = true;
    for (const Variant& variant :
         {zoo::bigbird(64, 3, 2, 3, 16384, 1), zoo::longformer(512, 16), zoo::streaming_llm(4, 1024)})
      EXPECT_EQ(backward(variant, shape).stack_bytes, 0) << d;
  }
  ForwardShape paired;  // blocks of pairs take halves of a row
  paired.d_qk = paired.d_v = 256;
  paired.has_lists = paired.has_long_rows = true;
  EXPECT_LE(backward(zoo::longformer(512, 16), paired).stack_bytes, 24);
}

TEST_F(HopperProgram, NothingSpillsInAFixedOrder) {
  for (const int d : {64, 128, 256}) {
    ForwardShape shape;
    shape.d_qk = shape.d_v = d;
    shape.is_deterministic = true;
    EXPECT_EQ(backward(Variant(), shape).stack_bytes, 0) << d;
    EXPECT_EQ(backward(zoo::alibi(16), shape).stack_bytes, 0) << d;
    shape.has_lists = true;
    EXPECT_EQ(backward(zoo::causal(), shape).stack_bytes, 0) << d;
  }
}

/// Variants with gradients of their tables and parameters, and the most that a kernel may spill at d 64 and at d 128,
/// where sums of keys and values leave 48 registers for all else: what the compiler puts aside, most of it around a
/// tile that a mask cuts.
struct Differentiated {
  const char* name;
  Variant variant;
  int stack_bytes_64 = 0, stack_bytes_128 = 0;
};
std::vector<Differentiated> differentiated() {
  const Table by_distance("by_distance", DType::float32, 2), slopes("slopes", DType::float32, 1),
      of_queries("of_queries", DType::float32, 2), sink_of("sink_of", DType::float32, 1);
  const Parameter cap("cap", 1, 100);
  return {{"T5", zoo::t5_buckets(), 0, 32},
          {"T5 and causal", zoo::t5_buckets() & zoo::causal(), 0, 96},
          {"relative position", zoo::relative_position(128), 0, 24},
          {"relative position and causal", zoo::relative_position(128) & zoo::causal(), 0, 96},
          {"every distance",
           score([&](Expr s, const At& at) { return s + by_distance(at.head, at.query - at.key + 1024); }), 0, 24},
          {"slopes", score([&](Expr s, const At& at) { return s - slopes(at.head) * abs(at.query - at.key); }), 0, 152},
          {"learned bias", zoo::learned_bias(), 0, 32},
          {"of queries", score([&](Expr s, const At& at) { return s * of_queries(at.head, at.query_index); }), 80, 232},
          {"dense bias", zoo::dense_bias(), 0, 64},
          {"pair bias", zoo::pair_bias(), 8, 32},
          {"cap", score([&](Expr s, const At&) { return cap * tanh(s / cap); })},
          {"sink", zoo::causal() & sink([&](const At& at) { return sink_of(at.head); })},
          {"two stages",
           zoo::relative_position(128) & zoo::causal() & score([&](Expr s, const At&) { return cap * tanh(s / cap); }),
           0, 200}};
}

class HopperGradientsProgram : public HopperProgram, public ::testing::WithParamInterface<int> {};

TEST_P(HopperGradientsProgram, FewSpill) {
  const int d = GetParam();
  for (const Differentiated& one : differentiated()) {
    SCOPED_TRACE(one.name);
    ForwardShape shape;
    shape.d_qk = shape.d_v = d;
    shape.has_gradients = true;
    const auto& stages = one.variant.data().stages;
    shape.has_lists = std::any_of(stages.begin(), stages.end(),
                                  [](const auto& stage) { return stage.kind == variant::Stage::Kind::keep; });
    EXPECT_LE(backward(one.variant, shape).stack_bytes, d == 64 ? one.stack_bytes_64 : one.stack_bytes_128);
  }
}

INSTANTIATE_TEST_SUITE_P(Dimensions, HopperGradientsProgram, ::testing::Values(64, 128));

TEST_F(HopperProgram, GradientsInAFixedOrderAndWithDropout) {
  ForwardShape shape;
  shape.has_gradients = shape.is_deterministic = true;
  EXPECT_LE(backward(zoo::relative_position(128), shape).stack_bytes, 80);
  shape.d_qk = 40;
  shape.d_v = 72;
  shape.has_dropout = true;
  backward(zoo::t5_buckets(), shape);
}

TEST_F(HopperProgram, Float8) {
  const auto expect = [&](const Variant& variant, int d_qk, int d_v, int stack_bytes) {
    ForwardShape shape;
    shape.dtype = DType::float8_e4m3;
    shape.d_qk = d_qk;
    shape.d_v = d_v;
    const auto& stages = variant.data().stages;
    shape.has_lists = !stages.empty();
    SCOPED_TRACE(fmt::format("d_qk {}, d_v {}", d_qk, d_v));
    const HopperForwardPlan plan = hopper_float8_candidates(shape, kHopper).front();
    const jit::Program program =
        hopper_forward_program(variant, hopper_text(variant, shape, false), shape, plan, kArchitecture);
    const jit::Binary binary = compile(program);
    const jit::Resources forward = binary.kernel("forward").resources.value();
    EXPECT_EQ(binary.kernel("transpose_values").resources.value().stack_bytes, 0);
    EXPECT_LE(forward.stack_bytes, stack_bytes);
    EXPECT_EQ(forward.registers, plan.launch_registers());
  };
  for (const int d : {64, 128}) {
    for (const Variant& variant : {Variant(), zoo::causal(), zoo::documents({300, 500, 224})}) expect(variant, d, d, 0);
  }
  expect(Variant(), 256, 256, 0);
  expect(zoo::causal(), 256, 256, 24);  // the next tile's scales among them
  expect(zoo::causal(), 192, 48, 0);
}

TEST_F(HopperProgram, CompilesForEveryKindOfShape) {
  for (const auto& [d_qk, d_v] : {std::pair{8, 8}, {40, 72}, {192, 128}, {256, 256}, {128, 64}}) {
    ForwardShape shape;
    shape.d_qk = d_qk;
    shape.d_v = d_v;
    shape.dtype = d_qk == 40 ? DType::float16 : DType::bfloat16;
    shape.has_dropout = d_qk == 192;
    SCOPED_TRACE(fmt::format("d_qk {}, d_v {}", d_qk, d_v));
    forward(Variant(), shape);
    shape.is_paged = true, shape.page_multiple = 8;
    forward(Variant(), shape);
    shape.is_paged = false;
    if (!hopper_backward_refusal(shape).empty()) continue;
    for (const bool is_deterministic : {false, true}) {
      shape.is_deterministic = is_deterministic;
      backward(Variant(), shape);
    }
  }
}

}  // namespace
}  // namespace tilewise::cuda
