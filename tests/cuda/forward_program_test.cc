// Forward kernels compiled for each GPU generation, and what they take of it.
#include "cuda/launch/forward_program.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/launch/kernel_text.h"
#include "tests/jit/support.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda {
namespace {

struct Named {
  const char* name;
  Variant variant;
};

std::vector<Named> sample() {
  return {{"full", Variant()},
          {"causal", zoo::causal()},
          {"softcap and causal", zoo::softcap(30) & zoo::causal()},
          {"alibi", zoo::alibi(16)}};
}

class ForwardProgram : public jit::WithNvrtc, public ::testing::WithParamInterface<const char*> {
 protected:
  jit::Architecture architecture() const { return jit::Architecture::parse(GetParam()); }

  jit::Resources compile(const Variant& variant, const ForwardShape& shape) {
    const KeptFields kept = kept_fields(variant, shape.dtype);
    const ForwardPlan plan = choose_forward(shape, Multiprocessor::of(architecture()), kept);
    const variant::CudaText text = kernel_text(variant, shape.dtype, false);
    const jit::Binary binary = nvrtc_->compile(forward_program(variant, text, shape, plan, architecture()));
    EXPECT_EQ(binary.log.find("warning"), std::string::npos) << binary.log;
    const jit::Resources resources = binary.kernel("forward").resources.value();
    EXPECT_LE(resources.registers, plan.register_limit(Multiprocessor::of(architecture())));
    // What lies in static shared memory, the variant's hoisted values, has the room that plans leave.
    EXPECT_LE(resources.shared_bytes, 1024 + plan.kept_bytes(kept));
    return resources;
  }
};

// Registers are used to the last one, so the assembler sometimes puts values of the seldom taken ways aside. A stack of
// 32 bytes is eight of 255 registers, which a mask's parts of a tile take; a plan that is wrong by a matrix's row takes
// more.
TEST_P(ForwardProgram, HardlySpillsAtTheUsualDimensions) {
  for (const int d : {64, 128}) {
    for (const Named& one : sample()) {
      SCOPED_TRACE(fmt::format("d {}, {}", d, one.name));
      ForwardShape shape;
      shape.d_qk = shape.d_v = d;
      shape.has_lists = !one.variant.data().stages.empty();
      EXPECT_LE(compile(one.variant, shape).stack_bytes, 32);
    }
  }
}

class TimedForwardProgram : public ForwardProgram {};

// On 9.0 scores are timed against plain attention. When softcap's kernel got another plan, by which it spilled 24 bytes
// and not 0, it lost a tenth of its time, which nobody saw until it was timed again. Those that read a table have
// lists, as it may remove entries; the six registers that clamped distances spill are read seldom, and with them it
// takes 0.92 of the time that a text took which spilled none.
TEST_P(TimedForwardProgram, SpillsNextToNothingOfScores) {
  struct Limit {
    Named of;
    bool has_lists;
    int bytes;
  };
  const std::vector<Limit> limits{{{"softcap", zoo::softcap(30)}, false, 0},
                                  {{"relative_position", zoo::relative_position(128)}, true, 24},
                                  {{"t5_buckets", zoo::t5_buckets(32, 128, true)}, true, 8},
                                  {{"alibi", zoo::alibi(16)}, false, 8}};
  for (const int d : {64, 128}) {
    for (const Limit& limit : limits) {
      SCOPED_TRACE(fmt::format("d {}, {}", d, limit.of.name));
      ForwardShape shape;
      shape.d_qk = shape.d_v = d;
      shape.has_lists = limit.has_lists;
      EXPECT_LE(compile(limit.of.variant, shape).stack_bytes, limit.bytes);
    }
  }
}

TEST_P(ForwardProgram, CompilesForEveryKindOfShape) {
  for (const auto& [d_qk, d_v] : {std::pair{8, 8}, {40, 72}, {192, 128}, {256, 256}}) {
    ForwardShape shape;
    shape.d_qk = d_qk;
    shape.d_v = d_v;
    shape.dtype = d_qk == 40 ? DType::float16 : DType::bfloat16;
    shape.has_dropout = d_qk == 192;
    shape.is_aligned = d_qk != 8;
    SCOPED_TRACE(fmt::format("d_qk {}, d_v {}", d_qk, d_v));
    compile(Variant(), shape);
  }
}

INSTANTIATE_TEST_SUITE_P(H200, TimedForwardProgram, ::testing::Values("sm_90a"));
INSTANTIATE_TEST_SUITE_P(Generations, ForwardProgram, ::testing::Values("sm_80", "sm_89", "sm_90a", "sm_100"),
                         [](const auto& one) { return std::string(one.param); });

TEST(ForwardProgramText, HoldsNoLiteralAndNoLength) {
  const ForwardShape shape;
  const ForwardPlan plan = choose_forward(shape, Multiprocessor::of(jit::Architecture::parse("sm_90a")));
  const auto program = [&](double cap) {
    const Variant variant = zoo::softcap(cap);
    const jit::Program made = forward_program(variant, kernel_text(variant, shape.dtype, false), shape, plan,
                                              jit::Architecture::parse("sm_90a"));
    return made.source + made.headers.back().text;
  };
  EXPECT_EQ(program(20), program(30));
}

}  // namespace
}  // namespace tilewise::cuda
