// Run-time compilation to its end: kernels loaded, launched, and right.
#include <gtest/gtest.h>

#include <limits>

#include "jit/driver_error.h"
#include "jit/module.h"
#include "tests/gpu/with_gpu.h"

namespace tilewise::jit {
namespace {

Program program_for(const Context& context, const std::string& source, std::vector<std::string> kernels) {
  Program program;
  program.name = "kernel.cu";
  program.source = source;
  program.architecture = context.device().architecture();
  program.kernels = std::move(kernels);
  return program;
}

// Compiles without any disk.
std::shared_ptr<const Module> build(const std::shared_ptr<const Context>& context, const Program& program) {
  Compiler compiler(Backend::nvrtc(), DiskCacheOptions());
  return load_program(compiler, program, context);
}

constexpr const char* kAdd = R"(
template <class T>
__global__ void add(const T* a, const T* b, T* sum, int count) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < count) sum[index] = a[index] + b[index];
}
)";

class JitOnGpu : public WithGpu {};

TEST_F(JitOnGpu, AddsTwoVectors) {
  constexpr int kCount = 1000003;  // no multiple of the block
  std::vector<float> a(kCount), b(kCount), expected(kCount);
  for (std::size_t index = 0; index < kCount; ++index) {
    a[index] = static_cast<float>(index % 1021);
    b[index] = 0.25f * static_cast<float>(index % 7);
    expected[index] = a[index] + b[index];
  }
  const DeviceArray<float> a_device(*context_, a), b_device(*context_, b);
  const DeviceArray<float> sum(*context_, std::vector<float>(kCount, std::numeric_limits<float>::quiet_NaN()));
  const Kernel add = build(context_, program_for(*context_, kAdd, {"add<float>"}))->kernel("add<float>");
  add({.grid = {(kCount + 255) / 256, 1, 1}, .block = {256, 1, 1}}, a_device.pointer(), b_device.pointer(),
      sum.pointer(), kCount);
  EXPECT_EQ(sum.values(), expected);
}

// Reverses 16384 floats through dynamic shared memory: 64 KiB, beyond the 48 KiB that need no asking.
constexpr const char* kReverse = R"(
extern __shared__ float shared[];
extern "C" __global__ void reverse(float* x) {
  for (int i = threadIdx.x; i < 16384; i += blockDim.x) shared[i] = x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < 16384; i += blockDim.x) x[i] = shared[16383 - i];
}
)";

TEST_F(JitOnGpu, ItsContextIsSharedWhileSomebodyHoldsIt) {
  std::shared_ptr<const Context> context = shared_context(0);
  EXPECT_EQ(shared_context(0), context);
  EXPECT_EQ(context->device().ordinal, 0);
  context.reset();
  EXPECT_EQ(shared_context(0)->handle(), context_->handle());  // the primary one, before and after
}

TEST_F(JitOnGpu, GetsTheSharedMemoryThatItAsksFor) {
  std::vector<float> values(16384), expected(16384);
  for (std::size_t index = 0; index < values.size(); ++index) {
    values[index] = static_cast<float>(index);
    expected[values.size() - 1 - index] = values[index];
  }
  const std::shared_ptr<const Module> module = build(context_, program_for(*context_, kReverse, {"reverse"}));
  const DeviceArray<float> x(*context_, values);
  module->kernel("reverse", 65536)({.block = {256, 1, 1}, .dynamic_shared_bytes = 65536}, x.pointer());
  EXPECT_EQ(x.values(), expected);
  EXPECT_THROW(module->kernel("reverse", 1 << 20), Error);
}

// Keeps 64 values in 32 registers: spills.
constexpr const char* kSpill = R"(
extern "C" __global__ void __launch_bounds__(1024, 2) spill(float* x) {
  __shared__ float shared[1024];
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = x[i * 1024 + threadIdx.x];
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  for (int round = 0; round < 4; ++round) {
    float sum = 0;
    for (int i = 0; i < 64; ++i) sum += values[i] * values[63 - i] + shared[(i * round) & 1023];
    for (int i = 0; i < 64; ++i) values[i] = values[i] * sum + i;
  }
  for (int i = 0; i < 64; ++i) x[i * 1024 + threadIdx.x] = values[i];
}
)";

TEST_F(JitOnGpu, TheDriverConfirmsTheResourcesReadFromTheLog) {
  const std::shared_ptr<const Module> module = build(context_, program_for(*context_, kSpill, {"spill"}));
  const Resources resources = module->binary().kernel("spill").resources.value();
  const Kernel kernel = module->kernel("spill");
  EXPECT_EQ(kernel.attribute(FunctionAttribute::registers), resources.registers);
  EXPECT_EQ(kernel.attribute(FunctionAttribute::local_bytes), resources.stack_bytes);
  EXPECT_EQ(kernel.attribute(FunctionAttribute::static_shared_bytes), resources.shared_bytes);
  EXPECT_GT(resources.spill_store_bytes, 0);
}

constexpr const char* kClusterSize = R"(
extern "C" __global__ void cluster_size(unsigned* sizes) {
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(size));
  sizes[blockIdx.x] = size;
}
)";

TEST_F(JitOnGpu, BlocksLaunchInClusters) {
  if (context_->device().compute_capability_major < 9) GTEST_SKIP() << "clusters need compute capability 9.0";
  const DeviceArray<unsigned> sizes(*context_, std::vector<unsigned>(8, 0));
  const Kernel kernel = build(context_, program_for(*context_, kClusterSize, {"cluster_size"}))->kernel("cluster_size");
  kernel({.grid = {8, 1, 1}, .cluster = {4, 1, 1}}, sizes.pointer());
  EXPECT_EQ(sizes.values(), std::vector<unsigned>(8, 4));
}

TEST_F(JitOnGpu, CodeForAnotherArchitectureIsAWrongBinary) {
  Program program = program_for(*context_, kAdd, {"add<float>"});
  program.architecture = Architecture::parse(context_->device().compute_capability_major == 8 ? "sm_90" : "sm_80");
  try {
    build(context_, program);
    FAIL() << "it loaded";
  } catch (const DriverError& error) {
    EXPECT_EQ(error.failure(), DriverFailure::wrong_binary) << error.what();
  }
}

TEST_F(JitOnGpu, TooMuchMemoryIsOutOfMemory) {
  const CurrentContext current(*context_);
  DevicePointer pointer = 0;
  const DriverResult result = context_->driver().api().memory_allocate(&pointer, std::size_t{1} << 50);
  EXPECT_EQ(failure_of(result), DriverFailure::out_of_memory) << result;
}

TEST_F(JitOnGpu, AnImpossibleLaunchIsRefusedAndTheNextWorks) {
  const Kernel kernel = build(context_, program_for(*context_, kAdd, {"add<int>"}))->kernel("add<int>");
  EXPECT_THROW(kernel({.block = {4096, 1, 1}}, DevicePointer{0}, DevicePointer{0}, DevicePointer{0}, 0), DriverError);
  const DeviceArray<int> a(*context_, {1, 2}), b(*context_, {10, 20}), sum(*context_, {0, 0});
  kernel({.block = {32, 1, 1}}, a.pointer(), b.pointer(), sum.pointer(), 2);
  EXPECT_EQ(sum.values(), (std::vector<int>{11, 22}));
}

// Writes through a null pointer, in a process of its own; exits with 0 when that is told as a lost device, and again by
// whatever is called next.
void lose_the_device(const std::shared_ptr<const Context>& context) {
  const Kernel kernel = build(context, program_for(*context, kAdd, {"add<float>"}))->kernel("add<float>");
  kernel({.block = {32, 1, 1}}, DevicePointer{0}, DevicePointer{0}, DevicePointer{0}, 32);
  int lost = 0;
  for (int attempt = 0; attempt < 2; ++attempt) {
    const CurrentContext current(*context);
    lost += failure_of(context->driver().api().stream_synchronize(nullptr)) == DriverFailure::device_lost;
  }
  std::_Exit(lost == 2 ? 0 : 1);
}

using JitOnGpuDeathTest = JitOnGpu;

TEST_F(JitOnGpuDeathTest, AKernelThatFaultsIsToldAsALostDevice) {
  // The process starts anew, since a driver that was started does not survive fork().
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(lose_the_device(context_), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tilewise::jit
