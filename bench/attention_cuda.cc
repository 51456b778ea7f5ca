// How fast does the GPU at hand compute attention? bfloat16, b 1, 16384 tokens, hidden width 2048; forward.
//
// Times are of kernels queued one behind the other, by the host's clock. FLOPs: 4 d a kept entry (causal: half of all).
// bench/compare_torch_cuda.py measures the same beside other libraries.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>

#include "cuda/launch/bound_variant.h"
#include "cuda/launch/forward.h"
#include "jit/compiler.h"
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
  const Problem problem = Problem::uniform(1, heads, heads, kTokens, kTokens);
  ForwardShape shape;
  shape.d_qk = shape.d_v = d;
  shape.has_lists = !variant.data().stages.empty();
  const ForwardKernel kernel(jit::Compiler::instance(), context, variant, shape);
  const BoundVariant bound(context, variant, kernel.layout(), Bindings());
  const std::size_t elements = std::size_t{kTokens} * kHidden;
  const DeviceMemory q = DeviceMemory::of(context, random_bfloat16(elements)),
                     k = DeviceMemory::of(context, random_bfloat16(elements)),
                     v = DeviceMemory::of(context, random_bfloat16(elements));
  const DeviceMemory o(context, 2 * elements), sequences = DeviceMemory::of(context, sequence_shapes(problem));
  ForwardArguments arguments{};
  const auto view = [&](const DeviceMemory& memory) { return TensorView{memory.as<void>(), 0, d, kHidden}; };
  arguments.q = view(q), arguments.k = view(k), arguments.v = view(v), arguments.o = view(o);
  arguments.sequences = sequences.as<const SequenceShape>();
  arguments.heads_per_kv = 1;
  arguments.scale = static_cast<float>(1 / std::sqrt(d));
  std::unique_ptr<DeviceTileLists> lists;
  if (shape.has_lists) {
    tiles::Classifier classifier(variant, Bindings(), problem);
    lists = std::make_unique<DeviceTileLists>(context, make_tile_lists(classifier, problem, kernel.tile_sizes()));
    arguments.lists = lists->view();
  }
  const auto synchronize = [&] {
    const jit::CurrentContext current(*context);
    context->driver().check(context->driver().api().stream_synchronize(nullptr), "to run a kernel");
  };
  constexpr int kLaunches = 8;
  const auto launch = [&] { kernel.launch(arguments, bound.bytes(), extent_of(problem, false), nullptr); };
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
  state.SetLabel(kernel.explanation());
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
