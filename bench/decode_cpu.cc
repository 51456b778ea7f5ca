// How much of the machine's read bandwidth does decoding reach, on all cores? 32/8 heads, d 128, 32k cached tokens, one
// query a head. Each repetition reads a buffer of the cache's size with all threads, then decodes, so that both see the
// same neighbours; counters give best and median in GB/s of k and v read, and shares of the best bandwidth seen.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cpu/select.h"
#include "tiles/merge.h"

namespace {

using namespace tilewise;
using namespace tilewise::cpu;

constexpr std::int64_t kTokens = 32768, kSplitTokens = 1024;
constexpr int kHeads = 32, kKvHeads = 8, kGroup = kHeads / kKvHeads, kD = 128;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Threads that wait for work and share its tasks.
class Team {
 public:
  explicit Team(int threads) : gate_(threads + 1) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] {
        for (;;) {
          gate_.arrive_and_wait();
          if (tasks_ < 0) return;
          for (std::int64_t task; (task = next_.fetch_add(1)) < tasks_;) (*work_)(task);
          gate_.arrive_and_wait();
        }
      });
    }
  }
  ~Team() {
    tasks_ = -1;
    gate_.arrive_and_wait();
    for (std::thread& thread : threads_) thread.join();
  }
  /// Seconds that all tasks take.
  double run(std::int64_t tasks, const std::function<void(std::int64_t)>& work) {
    tasks_ = tasks;
    work_ = &work;
    next_ = 0;
    const double begin = seconds();
    gate_.arrive_and_wait();
    gate_.arrive_and_wait();
    return seconds() - begin;
  }

 private:
  std::barrier<> gate_;
  std::vector<std::thread> threads_;
  std::int64_t tasks_ = 0;
  std::atomic<std::int64_t> next_ = 0;
  const std::function<void(std::int64_t)>* work_ = nullptr;
};

std::int64_t size_in_bytes(DType dtype) { return dtype == DType::float32 ? 4 : dtype == DType::int8 ? 1 : 2; }

struct Case {
  const Kernels* kernels;
  DType dtype;
  std::int64_t page_tokens;  // 0: strided, [tokens, h_kv, d]
};

void decode(benchmark::State& state, const Case& c) {
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  Team team(threads);
  const std::int64_t row_bytes = kD * size_in_bytes(c.dtype), bytes = 2 * kTokens * kKvHeads * row_bytes;
  std::vector<std::uint8_t> cache(static_cast<std::size_t>(bytes));
  std::mt19937 random(1);
  for (std::size_t i = 0; i + 4 <= cache.size(); i += 4) {
    const float value = static_cast<float>(random()) * 0x1p-32f;
    std::memcpy(&cache[i], &value, 4);
  }
  const std::vector<float> scales(static_cast<std::size_t>(kTokens), 0.01f);
  std::vector<std::int32_t> table(static_cast<std::size_t>(c.page_tokens == 0 ? 0 : kTokens / c.page_tokens));
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i);
  std::shuffle(table.begin(), table.end(), random);
  const std::vector<float> q(kHeads * kD, 0.5f);
  const std::int64_t splits = kTokens / kSplitTokens, tasks = kKvHeads * splits;
  std::vector<float> part_o(static_cast<std::size_t>(tasks * kGroup * kD)),
      part_lse(static_cast<std::size_t>(tasks * kGroup));
  std::vector<float> o(kHeads * kD);

  const auto source = [&](std::int64_t kv_head, bool values) {
    RowSource found;
    const std::int64_t half = values ? kTokens * kKvHeads * row_bytes : 0;
    // Strided [tokens, h_kv, d]; a page is [h_kv, page_tokens, d].
    const std::int64_t offset = kv_head * (c.page_tokens == 0 ? 1 : c.page_tokens) * row_bytes;
    found.rows = {cache.data() + half + offset, c.page_tokens == 0 ? kKvHeads * kD : kD, c.dtype};
    if (c.page_tokens != 0) {
      found.block_table = table.data();
      found.page_tokens = c.page_tokens;
      found.page_stride = c.page_tokens * kKvHeads * kD;
    }
    if (c.dtype == DType::int8) {
      found.scales = scales.data();
      found.scale_page_stride = c.page_tokens;
    }
    return found;
  };
  const auto run_task = [&](std::int64_t task_index) {
    // Neighbouring tasks are heads of the same tokens: in [tokens, h_kv, d] they share pages and rows of memory.
    const std::int64_t kv_head = task_index % kKvHeads, split = task_index / kKvHeads;
    alignas(64) static thread_local float workspace[1 << 14];
    DecodeRow rows[kGroup];
    for (int i = 0; i < kGroup; ++i) rows[i].q = &q[static_cast<std::size_t>((kv_head * kGroup + i) * kD)];
    DecodeTask task;
    task.shape = {1, kTokens, kD, kD};
    task.key_begin = split * kSplitTokens;
    task.key_end = task.key_begin + kSplitTokens;
    task.rows = rows;
    task.row_count = kGroup;
    task.k = source(kv_head, false);
    task.v = source(kv_head, true);
    task.scale = 1 / std::sqrt(static_cast<float>(kD));
    task.o = &part_o[static_cast<std::size_t>(task_index * kGroup * kD)];
    task.lse = &part_lse[static_cast<std::size_t>(task_index * kGroup)];
    task.workspace = workspace;
    c.kernels->decode(task);
  };
  const auto merge_all = [&] {
    for (int head = 0; head < kHeads; ++head) {
      tiles::Partial<float> into{&o[static_cast<std::size_t>(head * kD)], -HUGE_VALF};
      std::fill_n(into.o, kD, 0.0f);
      for (std::int64_t split = 0; split < splits; ++split) {
        const auto at = static_cast<std::size_t>((split * kKvHeads + head / kGroup) * kGroup + head % kGroup);
        tiles::merge<float>(into, {&part_o[at * kD], part_lse[at]}, kD);
      }
    }
  };
  const std::function<void(std::int64_t)> decode_task = run_task;
  constexpr std::int64_t kPieces = 256;
  const std::function<void(std::int64_t)> read_task = [&](std::int64_t piece) {
    const auto* begin = reinterpret_cast<const std::uint64_t*>(cache.data() + bytes / kPieces * piece);
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < bytes / kPieces / 8; ++i) sum |= begin[i];
    benchmark::DoNotOptimize(sum);
  };

  double bandwidth = 0;
  std::vector<double> times;
  for (auto _ : state) {
    bandwidth = std::max(bandwidth, static_cast<double>(bytes) / team.run(kPieces, read_task) * 1e-9);
    const double begin = seconds();
    team.run(tasks, decode_task);
    merge_all();
    times.push_back(seconds() - begin);
    state.SetIterationTime(times.back());
  }
  std::sort(times.begin(), times.end());
  const double best = static_cast<double>(bytes) / times.front() * 1e-9;
  const double median = static_cast<double>(bytes) / times[times.size() / 2] * 1e-9;
  state.counters["bandwidth"] = bandwidth;
  state.counters["best"] = best;
  state.counters["median"] = median;
  state.counters["best_share"] = best / bandwidth;
  state.counters["median_share"] = median / bandwidth;
}

[[maybe_unused]] const bool registered = [] {
  for (const Kernels* kernels : available_kernels()) {
    if (kernels->operand != DType::float32) continue;  // decoding is the same there
    for (const auto& [dtype, name] :
         {std::pair{DType::float32, "float32"}, {DType::bfloat16, "bfloat16"}, {DType::int8, "int8"}}) {
      for (const std::int64_t page_tokens : {0, 16}) {
        const std::string full =
            std::string("decode/") + kernels->name + "/" + name + (page_tokens == 0 ? "/strided" : "/paged16");
        benchmark::RegisterBenchmark(full.c_str(), decode, Case{kernels, dtype, page_tokens})
            ->UseManualTime()
            ->MinTime(1.0);
      }
    }
  }
  return true;
}();

}  // namespace
