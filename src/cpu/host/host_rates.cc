// Measures this machine's arithmetic and memory.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "core/fail.h"
#include "cpu/host/rate_loops.h"
#include "tilewise/device.h"

namespace tilewise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRepetitions = 10;
constexpr std::int64_t kRounds = 1 << 20;  // about 5 ms of multiply-adds

const cpu::RateLoops& loops_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::amx) return cpu::compiled_rate_loops<Isa::amx>();
  if (isa == Isa::avx512_bf16) return cpu::compiled_rate_loops<Isa::avx512_bf16>();
  // VNNI's products of bytes are for decoding alone.
  if (isa == Isa::avx512 || isa == Isa::avx512_vnni) return cpu::compiled_rate_loops<Isa::avx512>();
  if (isa == Isa::avx2) return cpu::compiled_rate_loops<Isa::avx2>();
#endif
  if (isa == Isa::baseline) return cpu::compiled_rate_loops<Isa::baseline>();
  fail(ErrorCode::unsupported, "instruction_set is {}; there is no burst for it", to_string(isa));
}

/// Float32 multiply-adds are no faster in what ranks above.
Isa widest() { return std::min(available_isas().back(), Isa::avx512); }

/// Runs work(thread) on that many threads together, the calling one being thread 0; on none where not all can be had,
/// since they wait for each other.
template <class Work>
void on_threads(int threads, const Work& work) {
  enum class Word : int { wait, begin, leave };
  std::atomic<Word> word = Word::wait;
  const auto say = [&word](Word said) {
    word.store(said);
    word.notify_all();
  };
  std::vector<std::jthread> others;  // which join at the end, so that all must have been told by then
  try {
    for (int thread = 1; thread < threads; ++thread) {
      others.emplace_back([&word, &work, thread] {
        word.wait(Word::wait);
        if (word.load() == Word::begin) work(thread);
      });
    }
  } catch (const std::exception& error) {
    say(Word::leave);
    fail(ErrorCode::out_of_memory, "{} threads could not be started, only {}: {}", threads, others.size() + 1,
         error.what());
  }
  say(Word::begin);
  work(0);
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
  on_threads(threads, run);
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
  const std::int64_t share = static_cast<std::int64_t>(data.size()) / threads / 256 * 256;
  std::vector<float> sums(static_cast<std::size_t>(threads) * 64);  // 256 bytes apart: no line is shared
  const double seconds = best_seconds(threads, [&](int thread) {
    loops.read(data.data() + thread * share, share, &sums[static_cast<std::size_t>(thread) * 64]);
  });
  return static_cast<double>(share * threads * 4) / seconds * 1e-9;
}

}  // namespace

std::int64_t cpu::bytes_beyond_caches() {
  std::int64_t bytes = std::int64_t{256} << 20;
  for (const CacheInfo& cache : host_info().caches) bytes = std::max(bytes, 2 * cache.bytes);
  return bytes;
}

HostRates measure_host() {
  const Isa isa = widest();
  const cpu::RateLoops& loops = loops_of(isa);
  const int threads = host_info().processors;
  HostRates rates;
  rates.instruction_set = to_string(isa);
  rates.one_core_gflops = multiply_add_gflops(loops, 1);
  rates.all_cores_gflops = multiply_add_gflops(loops, threads);
  const std::int64_t bytes = cpu::bytes_beyond_caches();
  try {
    const std::vector<float> data(static_cast<std::size_t>(bytes) / sizeof(float), 1.0f);
    rates.one_core_read_gbs = read_gbs(loops, data, 1);
    rates.all_cores_read_gbs = read_gbs(loops, data, threads);
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, "measure_host(): {} bytes to read from could not be allocated", bytes);
  }
  return rates;
}

double burst_gflops(const std::string& instruction_set, int threads) {
  const Isa isa = isa_from_string(instruction_set);
  if (std::find(available_isas().begin(), available_isas().end(), isa) == available_isas().end())
    fail(ErrorCode::unsupported, "instruction_set is {}, which this processor does not run", instruction_set);
  if (threads < 1) fail_argument("threads is {}; expected at least 1", threads);
  const cpu::RateLoops& loops = loops_of(isa);
  const auto chains = loops.bfloat16_dot != nullptr ? loops.bfloat16_dot : loops.multiply_add;
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::barrier ready(threads);
  // Each thread's own time: how late the system wakes one says nothing about its arithmetic.
  const auto run = [&](int thread) {
    float sink = 0;
    ready.arrive_and_wait();
    const Clock::time_point begin = Clock::now();
    const double flops = chains(kRounds, &sink);
    rates[static_cast<std::size_t>(thread)] = flops / std::chrono::duration<double>(Clock::now() - begin).count();
  };
  on_threads(threads, run);
  return std::accumulate(rates.begin(), rates.end(), 0.0) * 1e-9;
}

}  // namespace tilewise
