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
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/select.h"

namespace {

using namespace tilewise;
using namespace tilewise::cpu;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Twelve independent chains: two products a cycle with four cycles of latency need eight, one with six needs six.
// clang-format off
#define TILEWISE_CHAINS(instruction, registers)                                                                       \
  asm volatile("1:\n.irp i,1,2,3,4,5,6,7,8,9,10,11,12\n" instruction " %%" registers "0, %%" registers "0, %%"         \
               registers "\\i\n.endr\ndec %0\njnz 1b\n"                                                              \
               : "+r"(rounds) : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",     \
                 "xmm10", "xmm11", "xmm12")
// clang-format on

/// Rate in GFLOP/s of the products that the kernels are made of, the best of the widths that the processor has.
double peak_once(const Kernels& kernels) {
  constexpr long kRounds = 60000;
  const auto rate = [](int flops, auto chains) {
    const double begin = seconds();
    chains(kRounds);
    return 12.0 * flops * kRounds / (seconds() - begin) * 1e-9;
  };
  if (kernels.operand == DType::bfloat16) {
    return rate(64, [](long rounds) { TILEWISE_CHAINS("vdpbf16ps", "zmm"); });
  }
  const double narrow = rate(16, [](long rounds) { TILEWISE_CHAINS("vfmadd231ps", "ymm"); });
  if (!std::string(kernels.name).starts_with("avx512")) return narrow;
  return std::max(narrow, rate(32, [](long rounds) { TILEWISE_CHAINS("vfmadd231ps", "zmm"); }));
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

/// [s, d] of a storage type; bfloat16 by truncation, which is near enough to a normal distribution.
class Rows2D {
 public:
  Rows2D(std::int64_t s, int d, DType dtype, unsigned seed)
      : floats_(normal_floats(s * d, seed)), d_(d), dtype_(dtype) {
    if (dtype == DType::float32) return;
    for (std::int64_t i = 0; i < s * d; ++i) {
      std::memcpy(bytes() + i * 2, bytes() + i * 4 + 2, 2);  // the upper half, little endian
    }
  }
  Rows view() const { return {floats_.get(), d_, dtype_}; }
  MutableRows mutable_view() { return {floats_.get(), d_, dtype_}; }

 private:
  char* bytes() { return reinterpret_cast<char*>(floats_.get()); }
  Buffer floats_;
  int d_;
  DType dtype_;
};

struct Case {
  const Kernels* kernels;
  DType dtype;
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
  const Rows2D q(c.s, c.d, c.dtype, 1), k(c.s, c.d, c.dtype, 2), v(c.s, c.d, c.dtype, 3);
  Rows2D o(c.s, c.d, c.dtype, 4);
  const Buffer lse = aligned_floats(c.s);
  const Buffer workspace = aligned_floats(kernels.forward_floats(shape));
  ForwardTask task;
  task.shape = shape;
  task.q = q.view();
  task.k.rows = k.view();
  task.v.rows = v.view();
  task.o = o.mutable_view();
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
  const Rows2D q(c.s, c.d, c.dtype, 1), k(c.s, c.d, c.dtype, 2), v(c.s, c.d, c.dtype, 3);
  const Rows2D o(c.s, c.d, c.dtype, 4), d_o(c.s, c.d, c.dtype, 5);
  Rows2D d_q(c.s, c.d, c.dtype, 6), d_k(c.s, c.d, c.dtype, 7), d_v(c.s, c.d, c.dtype, 8);
  const Buffer lse = aligned_floats(c.s), delta = aligned_floats(c.s);
  for (std::int64_t i = 0; i < c.s; ++i) lse.get()[i] = 8;  // the time does not depend on it
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
  prepare.q = q.view();
  prepare.o = o.view();
  prepare.d_o = d_o.view();
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
  task.k = k.view();
  task.v = v.view();
  task.d_k = d_k.mutable_view();
  task.d_v = d_v.mutable_view();
  task.heads = &head;
  task.head_count = 1;
  task.workspace = workspace.get();
  float* partials[] = {partial.get()};
  finish.partials = partials;
  finish.partial_count = 1;
  finish.d_q = d_q.mutable_view();
  const double entries = static_cast<double>(c.s * c.s) * (c.causal ? 0.5 : 1.0);
  measure(state, c, 10.0 * c.d * entries, [&] {
    std::fill_n(partial.get(), kernels.d_q_flags(shape), 0.0f);
    kernels.prepare(prepare);
    kernels.backward(task);
    kernels.finish(finish);
  });
}

[[maybe_unused]] const bool registered = [] {
  const auto add = [](const Case& c) {
    const std::string name = std::string(c.kernels->name) + (c.dtype == DType::float32 ? "/float32" : "/bfloat16") +
                             "/d" + std::to_string(c.d) + "/s" + std::to_string(c.s) + (c.causal ? "/causal" : "/full");
    benchmark::RegisterBenchmark(("forward/" + name).c_str(), forward, c)->UseManualTime()->MinTime(1.0);
    benchmark::RegisterBenchmark(("backward/" + name).c_str(), backward, c)->UseManualTime()->MinTime(1.0);
  };
  for (const Kernels* kernels : available_kernels()) {
    for (const auto& [s, d] : {std::pair<std::int64_t, int>{2048, 64}, {4096, 128}}) {
      for (const bool causal : {false, true}) {
        for (const DType dtype : {DType::float32, DType::bfloat16}) {
          if (kernels->operand == DType::float32 || kernels->operand == dtype) add({kernels, dtype, s, d, causal});
        }
      }
    }
  }
  return true;
}();

}  // namespace
