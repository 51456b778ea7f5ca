// How near do the CPU kernels for plain attention come to the machine's limit? One core, one head, each instruction set
// that the processor has. Each repetition measures the kernel and the peak of fused multiply-adds one after the other;
// counters give the best and the median rate in GFLOP/s and as a share of the best peak seen. FLOPs are
// 2 (d_qk + d_v) a kept entry (causal: half of full), 2.5 times that backward.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/select.h"

namespace {

using namespace tilewise;
using namespace tilewise::cpu;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// GFLOP/s of twelve independent chains of 256-bit fused multiply-adds: two a cycle with four cycles of latency need
/// eight. On processors with one or two 512-bit pipes the wider form is tried as well and the better of both counts.
template <int kWidth>
double peak_once() {
  constexpr long kRounds = 60000;
  long rounds = kRounds;
  const double begin = seconds();
  if constexpr (kWidth == 8) {
    asm volatile(
        "1:\n"
        ".irp i,1,2,3,4,5,6,7,8,9,10,11,12\n vfmadd231ps %%ymm0, %%ymm0, %%ymm\\i\n .endr\n"
        "dec %0\n jnz 1b\n"
        : "+r"(rounds)
        :
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12");
  } else {
    asm volatile(
        "1:\n"
        ".irp i,1,2,3,4,5,6,7,8,9,10,11,12\n vfmadd231ps %%zmm0, %%zmm0, %%zmm\\i\n .endr\n"
        "dec %0\n jnz 1b\n"
        : "+r"(rounds)
        :
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12");
  }
  return 2.0 * 12 * kWidth * kRounds / (seconds() - begin) * 1e-9;
}

double peak_once(const Kernels& kernels) {
  const bool wide = std::string(kernels.name).starts_with("avx512");
  return std::max(peak_once<8>(), wide ? peak_once<16>() : 0.0);
}

KeySpan causal_span(const void*, std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin,
                    std::int64_t key_end) {
  const std::int64_t end = std::min(key_end, query_end);
  if (end <= key_begin) return {key_begin, key_begin, key_begin, key_begin};
  return {key_begin, key_begin, std::clamp(query_begin + 1, key_begin, end), end};
}

void causal_mask(const void*, const ScoreBlock& block) {
  for (int key = 0; key < block.keys; ++key) {
    const std::int64_t removed = std::min<std::int64_t>(block.key_begin + key - block.query_begin, block.queries);
    for (std::int64_t query = 0; query < removed; ++query) block.values[key * block.stride + query] = -HUGE_VALF;
  }
}

struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float, Free>;

Buffer aligned_floats(std::int64_t count) {
  return Buffer(static_cast<float*>(std::aligned_alloc(64, (static_cast<std::size_t>(count) * 4 + 63) / 64 * 64)));
}

Buffer normal_floats(std::int64_t count, unsigned seed) {
  Buffer buffer = aligned_floats(count);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < count; ++i) buffer.get()[i] = normal(random);
  return buffer;
}

struct Case {
  const Kernels* kernels;
  std::int64_t s;
  int d;
  bool causal;
};

/// Pairs `work` with the peak until the benchmark has run long enough, and sets the counters.
template <class Work>
void measure(benchmark::State& state, const Case& c, double flops, const Work& work) {
  double peak = 0;
  std::vector<double> times;
  for (auto _ : state) {
    peak = std::max(peak, peak_once(*c.kernels));
    const double begin = seconds();
    work();
    times.push_back(seconds() - begin);
    state.SetIterationTime(times.back());
  }
  std::sort(times.begin(), times.end());
  const double best = flops / times.front() * 1e-9, median = flops / times[times.size() / 2] * 1e-9;
  state.counters["peak"] = peak;
  state.counters["best"] = best;
  state.counters["median"] = median;
  state.counters["best_share"] = best / peak;
  state.counters["median_share"] = median / peak;
}

void forward(benchmark::State& state, const Case& c) {
  const Kernels& kernels = *c.kernels;
  const Shape shape{c.s, c.s, c.d, c.d};
  const Buffer q = normal_floats(c.s * c.d, 1), k = normal_floats(c.s * c.d, 2), v = normal_floats(c.s * c.d, 3);
  const Buffer o = aligned_floats(c.s * c.d), lse = aligned_floats(c.s);
  const Buffer workspace = aligned_floats(kernels.forward_floats(shape));
  ForwardTask task;
  task.shape = shape;
  task.q = {q.get(), c.d};
  task.k = {k.get(), c.d};
  task.v = {v.get(), c.d};
  task.o = {o.get(), c.d};
  task.lse = lse.get();
  task.scale = 1 / std::sqrt(static_cast<float>(c.d));
  if (c.causal) {
    task.walk = {causal_span, nullptr};
    task.score = {causal_mask, nullptr, true};
  }
  task.workspace = workspace.get();
  const double entries = static_cast<double>(c.s * c.s) * (c.causal ? 0.5 : 1.0);
  measure(state, c, 4.0 * c.d * entries, [&] {
    for (std::int64_t begin = 0; begin < c.s; begin += kernels.tile_queries) {
      task.query_begin = begin;
      task.query_end = std::min(c.s, begin + kernels.tile_queries);
      kernels.forward(task);
    }
  });
}

void backward(benchmark::State& state, const Case& c) {
  const Kernels& kernels = *c.kernels;
  const Shape shape{c.s, c.s, c.d, c.d};
  const std::int64_t n = c.s * c.d;
  const Buffer q = normal_floats(n, 1), k = normal_floats(n, 2), v = normal_floats(n, 3), d_o = normal_floats(n, 4);
  const Buffer o = normal_floats(n, 5), lse = aligned_floats(c.s), delta = aligned_floats(c.s);
  for (std::int64_t i = 0; i < c.s; ++i) lse.get()[i] = 8;  // the time does not depend on it
  const Buffer d_q = aligned_floats(n), d_k = aligned_floats(n), d_v = aligned_floats(n);
  const Buffer prepared = aligned_floats(kernels.prepared_floats(shape));
  const Buffer partial = aligned_floats(kernels.d_q_floats(shape));
  const Buffer workspace = aligned_floats(kernels.backward_floats(shape));
  const float scale = 1 / std::sqrt(static_cast<float>(c.d));

  PrepareTask prepare;
  BackwardHead head;
  BackwardTask task;
  FinishTask finish;
  prepare.shape = task.shape = finish.shape = shape;
  prepare.scale = task.scale = finish.scale = scale;
  prepare.q = {q.get(), c.d};
  prepare.o = {o.get(), c.d};
  prepare.d_o = {d_o.get(), c.d};
  prepare.lse = lse.get();
  prepare.delta = delta.get();
  prepare.prepared = prepared.get();
  prepare.query_end = finish.query_end = c.s;
  head.prepared = prepared.get();
  head.d_q = partial.get();
  if (c.causal) {
    head.walk = {causal_span, nullptr};
    head.score = {causal_mask, nullptr, true};
  }
  prepare.score = head.score;
  task.key_end = c.s;
  task.k = {k.get(), c.d};
  task.v = {v.get(), c.d};
  task.d_k = {d_k.get(), c.d};
  task.d_v = {d_v.get(), c.d};
  task.heads = &head;
  task.head_count = 1;
  task.workspace = workspace.get();
  const float* partials[] = {partial.get()};
  finish.partials = partials;
  finish.partial_count = 1;
  finish.d_q = {d_q.get(), c.d};
  const double entries = static_cast<double>(c.s * c.s) * (c.causal ? 0.5 : 1.0);
  measure(state, c, 10.0 * c.d * entries, [&] {
    std::fill_n(partial.get(), kernels.d_q_floats(shape), 0.0f);
    kernels.prepare(prepare);
    kernels.backward(task);
    kernels.finish(finish);
  });
}

[[maybe_unused]] const bool registered = [] {
  for (const Kernels* kernels : available_kernels()) {
    for (const auto& [s, d] : {std::pair<std::int64_t, int>{2048, 64}, {4096, 128}}) {
      for (const bool causal : {false, true}) {
        const std::string name = std::string(kernels->name) + "/d" + std::to_string(d) + "/s" + std::to_string(s) +
                                 (causal ? "/causal" : "/full");
        const Case c{kernels, s, d, causal};
        benchmark::RegisterBenchmark(("forward/" + name).c_str(), forward, c)->UseManualTime()->MinTime(1.0);
        benchmark::RegisterBenchmark(("backward/" + name).c_str(), backward, c)->UseManualTime()->MinTime(1.0);
      }
    }
  }
  return true;
}();

}  // namespace
