// How much memory does a cache of pages leave unused, against one stretch a sequence for the longest length?
//
// 1,000 sequences of 1 to 2,048 tokens, evenly drawn, take their tokens one by one; the counters are the cache's own
// account, in percent of the bytes that hold tokens. The time is that of start(), append() and finish(), for each
// token.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "tilewise/kv_cache.h"

namespace {

constexpr std::int64_t kSequences = 1000, kLongest = 2048;

void waste(benchmark::State& state) {
  const std::int64_t page_tokens = state.range(0);
  std::mt19937 random(1);
  std::vector<std::int64_t> lengths(kSequences);
  std::int64_t tokens = 0;
  for (std::int64_t& length : lengths) tokens += length = 1 + static_cast<std::int64_t>(random() % kLongest);
  tilewise::KvCache cache({.d_qk = 1,
                           .d_v = 1,
                           .page_tokens = page_tokens,
                           .pages = kSequences * (kLongest + page_tokens - 1) / page_tokens});
  tilewise::KvCacheAccount account;
  const std::vector<std::int32_t> one{1};
  for (auto _ : state) {
    std::vector<tilewise::KvSequence> sequences;
    for (const std::int64_t length : lengths) {
      sequences.push_back(cache.start());
      for (std::int64_t i = 0; i < length; ++i) cache.append(sequences.back(), one);
    }
    account = cache.account();
    for (const tilewise::KvSequence sequence : sequences) cache.finish(sequence);
  }
  const auto percent = [&](std::int64_t unused, std::int64_t used) {
    return 100.0 * static_cast<double>(unused) / static_cast<double>(used);
  };
  state.counters["pages_percent"] = percent(account.wasted_bytes, account.used_bytes);
  state.counters["contiguous_percent"] = percent(kSequences * kLongest - tokens, tokens);
  state.SetItemsProcessed(state.iterations() * tokens);
}
BENCHMARK(waste)->RangeMultiplier(2)->Range(1, 256)->Unit(benchmark::kMillisecond);

}  // namespace
