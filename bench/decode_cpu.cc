// How much of the machine's read bandwidth does decoding reach? 32/8 heads, d 128, 32k cached tokens, one query a
// sequence, through the public call. Every repetition reads memory that no cache holds (`memory`) and the keys and
// values (`read`: the same where no cache holds them) with the same threads, then decodes from them in one piece and in
// pages, so that all see the same neighbours. Counters: GB/s, best and median of the repetitions, of int8 with its
// scales, which are read like all else (1/32 of the bytes of keys and values); shares of either
// read's best and, repetition by repetition, the median ratio to it; and the same of pages to one piece.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/isa.h"
#include "cpu/host/rate_loops.h"
#include "tilewise/attention.h"

namespace {

using namespace tilewise;

constexpr std::int64_t kTokens = 32768, kPageTokens = 16;
constexpr std::int64_t kHeads = 32, kKvHeads = 8, kD = 128;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Case {
  const char* name;
  DType dtype, kv_dtype;
  bool tokens_outside;  // stored as [b, s, h_kv, d] rather than [b, h_kv, s, d]
};

/// Memory in huge pages where the system gives them, first touched by the threads that will read it.
class Memory {
 public:
  Memory(std::int64_t bytes, Executor& executor) : bytes_(bytes) {
    data_ = static_cast<char*>(mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (data_ == MAP_FAILED) throw std::bad_alloc();
    madvise(data_, size(), MADV_HUGEPAGE);
    // Bytes that are ordinary numbers in each dtype: 0.5 to 2 in bfloat16 and float32.
    std::vector<char> pattern(kPiece);
    std::mt19937 random(1);
    for (std::size_t i = 0; i + 1 < pattern.size(); i += 2) {
      const auto bits = static_cast<std::uint16_t>(0x3f00 + random() % 0x100 + (random() % 2 << 15));
      std::memcpy(&pattern[i], &bits, 2);
    }
    executor.parallel_for(
        bytes / kPiece, [&](std::int64_t piece, int) { std::memcpy(data_ + piece * kPiece, pattern.data(), kPiece); });
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { munmap(data_, size()); }

  char* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

  /// Reads all of it.
  void read(Executor& executor) const {
    executor.parallel_for(bytes_ / kPiece, [&](std::int64_t piece, int) {
      float sink = 0;
      loops().read(reinterpret_cast<const float*>(data_ + piece * kPiece), kPiece / 4, &sink);
      benchmark::DoNotOptimize(sink);
    });
  }

 private:
  static constexpr std::int64_t kPiece = 1 << 18;

  static const cpu::RateLoops& loops() {
    const Isa best = available_isas().back();
    if (best >= Isa::avx512) return cpu::compiled_rate_loops<Isa::avx512>();
    if (best >= Isa::avx2) return cpu::compiled_rate_loops<Isa::avx2>();
    return cpu::compiled_rate_loops<Isa::baseline>();
  }
  std::size_t size() const { return static_cast<std::size_t>(bytes_); }

  std::int64_t bytes_;
  char* data_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// What one kind of work read, 10^9 bytes a second, [repetitions].
struct Rates {
  std::vector<double> gbs;

  double best() const { return *std::max_element(gbs.begin(), gbs.end()); }
};

/// How much of the second kind of work's rate the first had, repetition by repetition.
double median_share(const Rates& of, const Rates& all) {
  std::vector<double> shares;
  for (std::size_t i = 0; i < of.gbs.size(); ++i) shares.push_back(of.gbs[i] / all.gbs[i]);
  return median(std::move(shares));
}

void decode(benchmark::State& state, const Case& c, std::int64_t b, int threads) {
  const auto executor = make_thread_pool(threads);
  const std::int64_t half = b * kKvHeads * kTokens * kD * size_of(c.kv_dtype), bytes = 2 * half;
  const Memory memory(bytes, *executor), beyond(cpu::bytes_beyond_caches(), *executor);
  const bool is_scaled = c.kv_dtype == DType::int8;
  const std::int64_t scales_of_keys = b * kKvHeads * kTokens;
  const Memory scale_memory(is_scaled ? 2 * scales_of_keys * std::int64_t{sizeof(float)} : 1 << 18, *executor);
  float* scales = reinterpret_cast<float*>(scale_memory.data());
  std::fill_n(scales, scale_memory.bytes() / std::int64_t{sizeof(float)}, 0.01f);
  const std::int64_t bytes_decoded = bytes + (is_scaled ? scale_memory.bytes() : 0);
  std::vector<float> q(static_cast<std::size_t>(b * kHeads * kD), 0.5f), o(q.size());  // enough for each dtype
  if (c.dtype == DType::bfloat16) {
    for (std::size_t i = 0; i < q.size(); ++i) std::memset(&q[i], 0x3f, sizeof q[i]);
  }

  const std::int64_t pages = b * kTokens / kPageTokens;
  std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(2));

  const auto view = [&](const void* data, DType dtype, std::int64_t outermost, std::int64_t tokens,
                        std::int64_t width) {
    const std::int64_t extents[] = {outermost, kKvHeads, tokens, width};
    const std::int64_t by_head[] = {kKvHeads * tokens * width, tokens * width, width, 1};
    const std::int64_t by_token[] = {kKvHeads * tokens * width, width, kKvHeads * width, 1};
    const std::size_t rank = width == 1 ? 3 : 4;  // scales have no last axis
    return ConstTensor(data, dtype, std::span(extents, rank), std::span(c.tokens_outside ? by_token : by_head, rank));
  };
  const auto inputs = [&](std::int64_t outermost, std::int64_t tokens) {
    ForwardInputs found{.q = ConstTensor(q.data(), c.dtype, {b, kHeads, 1, kD}),
                        .k = view(memory.data(), c.kv_dtype, outermost, tokens, kD),
                        .v = view(memory.data() + half, c.kv_dtype, outermost, tokens, kD)};
    if (is_scaled) {
      found.k_scales = view(scales, DType::float32, outermost, tokens, 1);
      found.v_scales = view(scales + scales_of_keys, DType::float32, outermost, tokens, 1);
    }
    found.sequences.assign(static_cast<std::size_t>(b), {.s_q = 1, .s_kv = kTokens});
    return found;
  };
  const ForwardInputs whole = inputs(b, kTokens);
  ForwardInputs paged = inputs(pages, kPageTokens);
  paged.block_table = ConstTensor(table.data(), DType::int32, {b, kTokens / kPageTokens});
  const ForwardOutputs outputs{.o = Tensor(o.data(), c.dtype, {b, kHeads, 1, kD})};
  const Plan plan = Attention(keep([](const At& at) { return at.query >= at.key; }))
                        .plan({.dtype = c.dtype,
                               .kv_dtype = c.kv_dtype,
                               .b = b,
                               .h_q = kHeads,
                               .h_kv = kKvHeads,
                               .d_qk = kD,
                               .d_v = kD,
                               .s_q = 1,
                               .s_kv = kTokens},
                              Device::cpu(*executor));
  Workspace workspace(plan.workspace_bytes());

  Rates of_memory, of_read, of_whole, of_paged;
  const auto time = [](Rates& rates, std::int64_t bytes_read, const auto& work) {
    const double begin = seconds();
    work();
    rates.gbs.push_back(static_cast<double>(bytes_read) / (seconds() - begin) * 1e-9);
  };
  plan.forward(whole, outputs, workspace);
  for (auto _ : state) {
    time(of_memory, beyond.bytes(), [&] { beyond.read(*executor); });
    time(of_read, bytes, [&] { memory.read(*executor); });
    time(of_whole, bytes_decoded, [&] { plan.forward(whole, outputs, workspace); });
    time(of_paged, bytes_decoded, [&] { plan.forward(paged, outputs, workspace); });
    state.SetIterationTime(static_cast<double>(bytes_decoded) / of_whole.gbs.back() * 1e-9);
  }
  const auto count = [&](const std::string& name, const Rates& rates) {
    state.counters[name + "_best"] = rates.best();
    state.counters[name + "_median"] = median(rates.gbs);
  };
  count("memory", of_memory);
  count("read", of_read);
  count("whole", of_whole);
  count("paged", of_paged);
  const auto compare = [&](const std::string& name, const Rates& of, const Rates& all) {
    state.counters[name + "_best"] = of.best() / all.best();
    state.counters[name + "_median"] = median_share(of, all);
  };
  compare("of_memory", of_whole, of_memory);
  compare("of_read", of_whole, of_read);
  compare("paged_of_whole", of_paged, of_whole);
}

[[maybe_unused]] const bool registered = [] {
  const int all = static_cast<int>(std::thread::hardware_concurrency());
  for (const Case& c : {Case{"float32", DType::float32, DType::float32, false},
                        {"bfloat16", DType::bfloat16, DType::bfloat16, false},
                        {"int8", DType::float32, DType::int8, false},
                        {"int8_of_bfloat16", DType::bfloat16, DType::int8, false},
                        {"float32_by_token", DType::float32, DType::float32, true},
                        {"bfloat16_by_token", DType::bfloat16, DType::bfloat16, true},
                        {"int8_by_token", DType::float32, DType::int8, true}}) {
    for (const std::int64_t b : {1, 16}) {
      for (const int threads : {1, all}) {
        if (b > 1 && (threads == 1 || c.tokens_outside)) continue;
        const std::string name = "decode/" + std::string(to_string(chosen_isa())) + "/" + c.name +
                                 "/b:" + std::to_string(b) + "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(name.c_str(), decode, c, b, threads)
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond)
            ->Iterations(b == 1 ? 40 : 8);
      }
    }
  }
  return true;
}();

}  // namespace
