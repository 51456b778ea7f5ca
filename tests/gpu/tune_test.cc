// Tuning on a GPU: every candidate is run, and the fastest is what plans take from then on.
#include "tilewise/tune.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/gpu/with_gpu.h"
#include "tests/refusal.h"
#include "tilewise/attention.h"

namespace tilewise::attention::testing {
namespace {

class TuneOnGpu : public jit::WithGpu {};

PlanShape shape() {
  return {.dtype = DType::float16, .h_q = 2, .h_kv = 2, .d_qk = 24, .d_v = 24, .s_q = 40, .s_kv = 40, .backward = true};
}

TEST_F(TuneOnGpu, KeepsWhatWasTheFastest) {
  const auto plan = [] { return Attention().plan(shape(), Device::cuda()).explain(); };
  // Made-up times: the last candidate of each kernel is the fastest.
  double time = 1;
  const TuneCase given{[&] { plan(); },
                       [&](const std::string&) {
                         plan();
                         return time *= 0.5;
                       }};
  const std::vector<TunedPlan> plans = tune(given);
  ASSERT_GE(plans.size(), 3u);
  const std::string explained = plan();
  for (const char* kernel : {"forward", "backward"}) {
    const auto chosen =
        std::ranges::find_if(plans, [&](const TunedPlan& one) { return one.kernel == kernel && one.is_chosen; });
    ASSERT_NE(chosen, plans.end()) << kernel;
    EXPECT_TRUE(chosen + 1 == plans.end() || (chosen + 1)->kernel != kernel) << "the last was the fastest";
    EXPECT_NE(explained.find(chosen->plan), std::string::npos) << explained;
  }
}

TEST_F(TuneOnGpu, MeasuresTheKernelsThatItsCallsRun) {
  const PlanShape decoding{.dtype = DType::float16, .h_q = 2, .h_kv = 2, .d_qk = 24, .d_v = 24, .s_q = 1, .s_kv = 40};
  TuneCase given{.plan = [&] { Attention().plan(decoding, Device::cuda()); },
                 .measure = [](const std::string&) { return 1.0; },
                 .kernels = {"decoding"}};
  const std::vector<TunedPlan> plans = tune(given, false);
  ASSERT_FALSE(plans.empty());
  for (const TunedPlan& plan : plans) EXPECT_EQ(plan.kernel, "decoding");
}

TEST(Tune, KnowsTheKernelsNames) {
  const TuneCase given{[] {}, [](const std::string&) { return 1.0; }, {"prefill"}};
  EXPECT_NE(refusal([&] { tune(given); }, ErrorCode::invalid_argument).find("prefill"), std::string::npos);
}

TEST(Tune, HasNothingToChooseForAProcessor) {
  const TuneCase given{[] { Attention().plan({.d_qk = 8, .d_v = 8, .s_q = 4, .s_kv = 4}); },
                       [](const std::string&) { return 1.0; }};
  EXPECT_NE(refusal([&] { tune(given); }, ErrorCode::unsupported).find("nothing to choose"), std::string::npos);
}

}  // namespace
}  // namespace tilewise::attention::testing
