// Measures this machine's arithmetic and memory.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "core/fail.h"
#include "cpu/host/rate_loops.h"
#include "tilewise/device.h"

namespace tilewise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRepetitions = 10;
constexpr std::int64_t kRounds = 1 << 20;                 // about 5 ms of multiply-adds
constexpr std::int64_t kFloats = std::int64_t{64} << 20;  // 256 MiB: far beyond any cache

struct Widest {
  Isa isa;
  const cpu::RateLoops& loops;
};

Widest widest() {
  const Isa best = available_isas().back();
#if defined(__x86_64__)
  if (best >= Isa::avx512) return {Isa::avx512, cpu::compiled_rate_loops<Isa::avx512>()};
  if (best >= Isa::avx2) return {Isa::avx2, cpu::compiled_rate_loops<Isa::avx2>()};
#endif
  return {Isa::baseline, cpu::compiled_rate_loops<Isa::baseline>()};
}

/// Seconds from when all threads stand ready until the last one is through; the best of several runs.
template <class Work>
double best_seconds(int threads, Work work) {
  double best = 1e30;
  Clock::time_point start;
  std::barrier ready(threads, [&start]() noexcept { start = Clock::now(); });
  std::barrier done(threads, [&start, &best]() noexcept {
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  });
  const auto run = [&](int thread) {
    for (int repetition = 0; repetition < kRepetitions; ++repetition) {
      ready.arrive_and_wait();
      work(thread);
      done.arrive_and_wait();
    }
  };
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  return best;
}

double multiply_add_gflops(const cpu::RateLoops& loops, int threads) {
  double flops = 0;
  const double seconds = best_seconds(threads, [&](int thread) {
    float sink = 0;
    const double done = loops.multiply_add(kRounds, &sink);
    if (thread == 0) flops = done;
  });
  return flops * threads / seconds * 1e-9;
}

double read_gbs(const cpu::RateLoops& loops, const std::vector<float>& data, int threads) {
  const std::int64_t share = kFloats / threads / 256 * 256;
  std::vector<float> sums(static_cast<std::size_t>(threads) * 64);  // 256 bytes apart: no line is shared
  const double seconds = best_seconds(threads, [&](int thread) {
    loops.read(data.data() + thread * share, share, &sums[static_cast<std::size_t>(thread) * 64]);
  });
  return static_cast<double>(share * threads * 4) / seconds * 1e-9;
}

}  // namespace

HostRates measure_host() {
  const auto [isa, loops] = widest();
  const int threads = host_info().processors;
  HostRates rates;
  rates.instruction_set = to_string(isa);
  rates.one_core_gflops = multiply_add_gflops(loops, 1);
  rates.all_cores_gflops = multiply_add_gflops(loops, threads);
  try {
    const std::vector<float> data(static_cast<std::size_t>(kFloats), 1.0f);
    rates.one_core_read_gbs = read_gbs(loops, data, 1);
    rates.all_cores_read_gbs = read_gbs(loops, data, threads);
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, "measure_host(): {} bytes to read from could not be allocated", kFloats * 4);
  }
  return rates;
}

}  // namespace tilewise
