#include "cuda/launch/read_rate.h"

#include <algorithm>
#include <chrono>

#include "cuda/launch/device_memory.h"
#include "jit/module.h"

namespace tilewise::cuda {
namespace {

// Every thread reads 16 bytes at a time, all of the GPU in step through memory; the sum keeps the reads alive.
constexpr const char* kSource = R"cuda(
extern "C" __global__ void read(const uint4* from, long long count, unsigned* to) {
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
  uint4 sum = make_uint4(0, 0, 0, 0);
#pragma unroll 8
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const uint4 value = __ldcs(from + i);
    sum.x ^= value.x, sum.y ^= value.y, sum.z ^= value.z, sum.w ^= value.w;
  }
  if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x5a17e57u) *to = sum.x;  // hardly ever, but no compiler can know
}
)cuda";

jit::Program program(const jit::Architecture& architecture) {
  jit::Program made;
  made.name = "read_rate.cu";
  made.source = kSource;
  made.options = {"--std=c++17"};
  made.architecture = architecture;
  made.kernels = {"read"};
  return made;
}

}  // namespace

double measure_read_gbs(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context) {
  const jit::DeviceInfo& device = context->device();
  const jit::Kernel kernel = jit::load_program(compiler, program(device.architecture()), context)->kernel("read");
  const std::int64_t bytes = std::max<std::int64_t>(std::int64_t{1} << 30, 8 * device.l2_bytes) / 16 * 16;
  const DeviceMemory memory(context, static_cast<std::size_t>(bytes)), sink(context, 16);
  const jit::CurrentContext current(*context);
  const auto seconds = [&](int passes) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < passes; ++i) {
      kernel({.grid = {static_cast<unsigned>(8 * device.multiprocessors), 1, 1}, .block = {256, 1, 1}},
             memory.as<const void>(), static_cast<long long>(bytes / 16), sink.as<unsigned>());
    }
    context->driver().check(context->driver().api().stream_synchronize(nullptr), "to run a kernel");
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / passes;
  };
  constexpr int kRuns = 8, kPasses = 8;  // passes enough for the launches' time not to count
  seconds(1);
  double best = seconds(kPasses);
  for (int i = 1; i < kRuns; ++i) best = std::min(best, seconds(kPasses));
  return static_cast<double>(bytes) / best / 1e9;
}

}  // namespace tilewise::cuda
