// Several host threads on one GPU, and several GPUs at once.
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "tests/gpu/gpu_caller.h"
#include "tests/gpu/with_gpu.h"
#include "tests/refusal.h"
#include "tilewise/zoo.h"

namespace tilewise::attention::testing {
namespace {

const reference::Shape kShape = uniform(2, 4, 2, 150, 260, 64, 64);

PlanShape planned(bool backward) {
  PlanShape shape = plan_shape(kShape, DType::bfloat16, backward, {});
  shape.query_tokens.reset(), shape.key_tokens.reset();
  return shape;
}

/// The output of one call, whose bits do not depend on who else is at work.
std::vector<std::byte> output_of(const Plan& plan, Caller& caller, std::uint64_t seed) {
  reference::AttentionData data(kShape, seed, DType::bfloat16, DType::float32);
  caller.forward(plan, data.inputs, {.o = data.o.tensor(), .lse = data.lse.tensor()});
  const auto* bytes = static_cast<const std::byte*>(data.o.view().data);
  return {bytes, bytes + data.o.size() * size_of(DType::bfloat16)};
}

void in_threads(int count, const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
}

class ThreadsOnGpu : public jit::WithGpu {};

TEST_F(ThreadsOnGpu, ShareAPlan) {
  constexpr int kThreads = 4, kCalls = 8;
  const Plan plan = Attention(zoo::causal()).plan(planned(false), Device::cuda());
  std::vector<std::vector<std::byte>> expected;
  GpuCaller caller(context_);
  for (int i = 0; i < kThreads; ++i) expected.push_back(output_of(plan, caller, static_cast<std::uint64_t>(i)));
  in_threads(kThreads, [&](int i) {
    GpuCaller own(context_);
    for (int call = 0; call < kCalls; ++call)
      EXPECT_EQ(output_of(plan, own, static_cast<std::uint64_t>(i)), expected[static_cast<std::size_t>(i)]);
  });
}

TEST_F(ThreadsOnGpu, MakePlansAtOnce) {
  in_threads(4, [&](int i) {
    GpuCaller caller(context_);
    Oracle oracle(DType::bfloat16, true, &caller);
    oracle.run(zoo::window(20 + i), kShape, {}, static_cast<std::uint64_t>(i));
    oracle.expect_close("thread " + std::to_string(i));
  });
}

/// Needs two GPUs.
class SeveralGpus : public jit::WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (context_ == nullptr) return;
    const int count = static_cast<int>(jit::list_devices(jit::Driver::instance()).size());
    if (count < 2) GTEST_SKIP() << "there is one GPU; expected two";
    for (int i = 0; i < count; ++i) contexts_.push_back(std::make_shared<jit::Context>(jit::Driver::instance(), i));
  }

  std::vector<std::shared_ptr<const jit::Context>> contexts_;
};

TEST_F(SeveralGpus, WorkAtOnce) {
  in_threads(static_cast<int>(contexts_.size()), [&](int i) {
    GpuCaller caller(contexts_[static_cast<std::size_t>(i)]);
    for (const Variant& variant : {zoo::causal(), zoo::softcap(5), zoo::window(30)}) {
      Oracle oracle(DType::bfloat16, true, &caller);
      oracle.run(variant, kShape, {}, static_cast<std::uint64_t>(i));
      oracle.expect_close(caller.device().text() + ", " + to_string(variant));
    }
  });
}

TEST_F(SeveralGpus, GiveTheSameBitsFromOneThread) {
  std::vector<std::vector<std::byte>> outputs;
  for (const auto& context : contexts_) {
    GpuCaller caller(context);
    outputs.push_back(output_of(Attention(zoo::causal()).plan(planned(false), caller.device()), caller, 5));
    EXPECT_EQ(outputs.back(), outputs.front()) << caller.device().text();
  }
}

TEST_F(SeveralGpus, RefuseEachOthersMemory) {
  const Plan plan = Attention().plan(planned(false), Device::cuda(0));
  reference::AttentionData data(kShape, 1, DType::bfloat16, DType::float32);
  GpuCopies here(contexts_[0]), there(contexts_[1]);
  const ForwardInputs inputs = here.in(data.inputs);
  const Tensor o = here.out(data.o.tensor());
  Workspace workspace(plan.workspace_bytes(), Device::cuda(0)), elsewhere(plan.workspace_bytes(), Device::cuda(1));
  ForwardInputs strange = inputs;
  strange.k = there.in(data.inputs.k);
  expect_refused([&] { plan.forward(strange, {.o = o}, workspace); }, {"k lies on cuda:1", "expected cuda:0"});
  expect_refused([&] { plan.forward(inputs, {.o = there.out(data.o.tensor())}, workspace); }, {"o lies on cuda:1"});
  expect_refused([&] { plan.forward(inputs, {.o = o}, elsewhere); }, {"workspace lies on cuda:1", "cuda:0"});
  plan.forward(inputs, {.o = o}, workspace);  // nothing of that did harm
  here.copy_back();
}

}  // namespace
}  // namespace tilewise::attention::testing
