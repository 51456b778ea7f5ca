// What the host does for calls of a GPU's plans, against a driver without a GPU: kernels are compiled for it, and their
// arguments looked at where they would be launched.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cuda/launch/backward.h"
#include "jit/driver.h"
#include "tests/jit/fake_driver.h"
#include "tests/jit/support.h"
#include "tilewise/attention.h"
#include "tilewise/zoo.h"

namespace tilewise::attention {
namespace {

/// Elements of a tensor, with the rows of its last axis further apart than they are long.
class Elements {
 public:
  Elements(DType dtype, std::initializer_list<std::int64_t> extents)
      : tensor_{nullptr, dtype, extents}, bytes_(static_cast<std::size_t>(2 * tensor_.elements() * size_of(dtype))) {
    for (std::size_t axis = 0; axis + 1 < extents.size(); ++axis) tensor_.strides[axis] *= 2;
    tensor_.data = bytes_.data();
  }
  const Tensor& tensor() const { return tensor_; }

 private:
  Tensor tensor_;
  std::vector<std::byte> bytes_;
};

class GpuCalls : public jit::WithNvrtc {
 protected:
  void SetUp() override {
    WithNvrtc::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    setenv("TILEWISE_CACHE_DIR", folder_.path().c_str(), 1);
    unsetenv("TILEWISE_GPU_FAMILY");
    // Under a name of the driver's, so that it is found in its place.
    void* const library = dlopen(TILEWISE_FAKE_LIBCUDA, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    if (jit::Driver::instance().path() != TILEWISE_FAKE_LIBCUDA)
      GTEST_SKIP() << "the driver itself is here, and comes first";
    fake_ = reinterpret_cast<jit::FakeDriver* (*)()>(dlsym(library, "fake_driver"))();
    fake_->has_memory = true;
    fake_->on_kernel = [this](const std::string& kernel, void** arguments) {
      kernels_.push_back(kernel);
      if (kernel == "forward") forward_ = *static_cast<const cuda::ForwardArguments*>(arguments[0]);
      if (kernel == "backward") backward_ = *static_cast<const cuda::BackwardArguments*>(arguments[0]);
    };
  }
  void TearDown() override {
    if (fake_ != nullptr) fake_->on_kernel = nullptr;
  }

  /// The kernels that a call queues.
  template <class Call>
  std::vector<std::string> kernels_of(Call call) {
    kernels_.clear();
    call();
    return kernels_;
  }

  static void expect_same(const cuda::TensorView& view, const Elements& elements) {
    const Tensor& tensor = elements.tensor();
    EXPECT_EQ(view.data, tensor.data);
    EXPECT_EQ((std::array{view.batch, view.head, view.row}),
              (std::array<long long, 3>{tensor.strides[0], tensor.strides[1], tensor.strides[2]}));
  }

  static constexpr std::int64_t kB = 2, kHq = 4, kHkv = 2, kQueries = 96, kKeys = 160, kD = 64;
  const Elements q_{DType::bfloat16, {kB, kHq, kQueries, kD}}, k_{DType::bfloat16, {kB, kHkv, kKeys, kD}},
      v_{DType::bfloat16, {kB, kHkv, kKeys, kD}}, o_{DType::bfloat16, {kB, kHq, kQueries, kD}},
      lse_{DType::float32, {kB, kHq, kQueries}}, d_o_{DType::bfloat16, {kB, kHq, kQueries, kD}},
      d_lse_{DType::float32, {kB, kHq, kQueries}}, d_q_{DType::bfloat16, {kB, kHq, kQueries, kD}},
      d_k_{DType::bfloat16, {kB, kHkv, kKeys, kD}}, d_v_{DType::bfloat16, {kB, kHkv, kKeys, kD}};
  const ForwardInputs inputs_{.q = q_.tensor(), .k = k_.tensor(), .v = v_.tensor()};
  const BackwardInputs given_{
      .o = o_.tensor(), .lse = lse_.tensor(), .d_o = d_o_.tensor(), .d_lse = ConstTensor(d_lse_.tensor())};
  const BackwardOutputs gradients_{.d_q = d_q_.tensor(), .d_k = d_k_.tensor(), .d_v = d_v_.tensor()};
  static PlanShape shape(bool backward) {
    return {.dtype = DType::bfloat16,
            .b = kB,
            .h_q = kHq,
            .h_kv = kHkv,
            .d_qk = kD,
            .d_v = kD,
            .s_q = kQueries,
            .s_kv = kKeys,
            .backward = backward};
  }

  TemporaryFolder folder_;
  jit::FakeDriver* fake_ = nullptr;
  std::vector<std::string> kernels_;
  cuda::ForwardArguments forward_{};
  cuda::BackwardArguments backward_{};
};

using Names = std::vector<std::string>;

TEST_F(GpuCalls, HandPortableKernelsTheirTensors) {
  setenv("TILEWISE_GPU_FAMILY", "portable", 1);
  const Plan plan = Attention(zoo::causal()).plan(shape(true), Device::cuda(0));
  Workspace workspace(plan.workspace_bytes(), Device::cuda(0));
  EXPECT_EQ(kernels_of([&] { plan.forward(inputs_, {.o = o_.tensor(), .lse = lse_.tensor()}, workspace); }),
            Names{"forward"});
  expect_same(forward_.q, q_), expect_same(forward_.k, k_), expect_same(forward_.v, v_);
  expect_same(forward_.o, o_), expect_same(forward_.lse, lse_);
  EXPECT_EQ(forward_.heads_per_kv, kHq / kHkv);
  EXPECT_EQ(forward_.scale, 0.125F);

  EXPECT_EQ(kernels_of([&] { plan.backward(inputs_, given_, gradients_, workspace); }),
            (Names{"prepare", "backward", "finish"}));
  expect_same(backward_.q, q_), expect_same(backward_.k, k_), expect_same(backward_.v, v_);
  expect_same(backward_.o, o_), expect_same(backward_.d_o, d_o_), expect_same(backward_.lse, lse_);
  expect_same(backward_.d_lse, d_lse_), expect_same(backward_.d_q, d_q_), expect_same(backward_.d_k, d_k_);
  expect_same(backward_.d_v, d_v_);
}

TEST_F(GpuCalls, QueueKernelsOfTheNewestFamily) {
  const Plan plan = Attention(zoo::causal()).plan(shape(true), Device::cuda(0));
  EXPECT_NE(plan.explain().find("forward: sm_90a"), std::string::npos) << plan.explain();
  Workspace workspace(plan.workspace_bytes(), Device::cuda(0));
  fake_->on_kernel = [this](const std::string& kernel, void**) { kernels_.push_back(kernel); };
  EXPECT_EQ(kernels_of([&] { plan.forward(inputs_, {.o = o_.tensor()}, workspace); }), Names{"forward"});
  EXPECT_EQ(kernels_of([&] { plan.backward(inputs_, given_, gradients_, workspace); }),
            (Names{"prepare", "backward", "finish"}));
}

TEST_F(GpuCalls, ListTilesOfOtherLengthsFirst) {
  const Plan plan = Attention(zoo::causal()).plan(shape(false), Device::cuda(0));
  Workspace workspace(plan.workspace_bytes(), Device::cuda(0));
  fake_->on_kernel = [this](const std::string& kernel, void**) { kernels_.push_back(kernel); };
  ForwardInputs shorter = inputs_;
  shorter.sequences = {{.s_q = 3, .s_kv = 70}, {.s_q = kQueries, .s_kv = kKeys}};
  EXPECT_EQ(kernels_of([&] { plan.forward(shorter, {.o = o_.tensor()}, workspace); }),
            (Names{"write", "classify", "forward"}));
}

TEST_F(GpuCalls, DecodeFewQueries) {
  PlanShape few = shape(false);
  few.s_q = 1;
  const Plan plan = Attention().plan(few, Device::cuda(0));
  Workspace workspace(plan.workspace_bytes(), Device::cuda(0));
  const Elements q(DType::bfloat16, {kB, kHq, 1, kD}), o(DType::bfloat16, {kB, kHq, 1, kD});
  ForwardInputs inputs = inputs_;
  inputs.q = q.tensor();
  const Names kernels = kernels_of([&] { plan.forward(inputs, {.o = o.tensor()}, workspace); });
  ASSERT_FALSE(kernels.empty());
  EXPECT_EQ(kernels.front(), "decode");
}

TEST_F(GpuCalls, RefuseTensorsOfTheHost) {
  const Plan plan = Attention(zoo::causal()).plan(shape(false), Device::cuda(0));
  Workspace workspace(plan.workspace_bytes(), Device::cuda(0));
  fake_->memory_type = 0;
  EXPECT_THROW(plan.forward(inputs_, {.o = o_.tensor()}, workspace), Error);
}

}  // namespace
}  // namespace tilewise::attention
