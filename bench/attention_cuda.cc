// How fast does the GPU at hand compute attention? bfloat16, b 1, 16384 tokens, hidden width 2048; forward.
//
// Times are of public calls queued one behind the other, by the host's clock. FLOPs: 4 d a kept entry (causal: half of
// all). bench/compare_torch_cuda.py measures the same beside other libraries.
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <cmath>

#include "cuda/launch/device_memory.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace {

using namespace tilewise;        // NOLINT(google-build-using-namespace): this file has no other subject
using namespace tilewise::cuda;  // NOLINT(google-build-using-namespace)

constexpr int kTokens = 16384, kHidden = 2048;

/// Random bits whose values lie in (-2, 2): sign and fraction are random, the exponent one of four.
std::vector<std::uint16_t> random_bfloat16(std::size_t count) {
  std::vector<std::uint16_t> bits(count);
  std::uint64_t state = 88172645463325252u;
  for (std::uint16_t& one : bits) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    one = static_cast<std::uint16_t>((state & 0x807f) | ((124 + (state >> 20) % 4) << 7));
  }
  return bits;
}

void run(benchmark::State& state, const Variant& variant, int d, double kept_entries) {
  const auto context = std::make_shared<const jit::Context>(jit::Driver::instance(), 0);
  const int heads = kHidden / d;
  const Plan plan = Attention(variant).plan(
      {.dtype = DType::bfloat16, .h_q = heads, .h_kv = heads, .d_qk = d, .d_v = d, .s_q = kTokens, .s_kv = kTokens},
      Device::cuda());
  Workspace workspace(plan.workspace_bytes(), Device::cuda());
  const std::size_t elements = std::size_t{kTokens} * kHidden;
  const DeviceMemory q = DeviceMemory::of(context, random_bfloat16(elements)),
                     k = DeviceMemory::of(context, random_bfloat16(elements)),
                     v = DeviceMemory::of(context, random_bfloat16(elements));
  const DeviceMemory o(context, 2 * elements);
  const std::array<std::int64_t, 4> extents = {1, heads, kTokens, d}, strides = {0, d, kHidden, 1};
  const auto view = [&](const DeviceMemory& memory) {
    return Tensor(memory.as<void>(), DType::bfloat16, extents, strides);
  };
  const auto synchronize = [&] {
    const jit::CurrentContext current(*context);
    context->driver().check(context->driver().api().stream_synchronize(nullptr), "to run a kernel");
  };
  constexpr int kLaunches = 8;
  const ForwardInputs inputs{.q = view(q), .k = view(k), .v = view(v)};
  const ForwardOutputs outputs{.o = view(o)};
  const auto launch = [&] { plan.forward(inputs, outputs, workspace); };
  launch();
  synchronize();
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kLaunches; ++i) launch();
    synchronize();
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kLaunches);
  }
  state.counters["FLOP/s"] = benchmark::Counter(
      4.0 * d * heads * kept_entries * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void attention(benchmark::State& state, const Variant& variant, double kept_share) {
  try {
    run(state, variant, static_cast<int>(state.range(0)), kept_share * kTokens * kTokens);
  } catch (const Error& error) {
    state.SkipWithError(error.what());
  }
}

constexpr double kWindowShare = (1024.0 * kTokens - 1024.0 * 1023 / 2) / (double{kTokens} * kTokens);

BENCHMARK_CAPTURE(attention, full, Variant(), 1)->Arg(64)->Arg(128)->Arg(256)->UseManualTime();
BENCHMARK_CAPTURE(attention, causal, zoo::causal(), 0.5)->Arg(64)->Arg(128)->Arg(256)->UseManualTime();
BENCHMARK_CAPTURE(attention, softcap, zoo::softcap(30), 1)->Arg(128)->UseManualTime();
BENCHMARK_CAPTURE(attention, alibi_causal, zoo::alibi(16) & zoo::causal(), 0.5)->Arg(128)->UseManualTime();
BENCHMARK_CAPTURE(attention, window, zoo::window(1024), kWindowShare)->Arg(128)->UseManualTime();

}  // namespace
