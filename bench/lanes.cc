// What does a variant cost on lanes? Core cycles for 8 scores: each operation on strips of 1024 words that stay in the
// first-level cache, and whole variants on tiles as the kernels lay them out. TILEWISE_ISA chooses the instruction set.
//
// The time stamp counter runs at the nominal clock; a chain of integer multiplications, 3 cycles each, measured just
// before shows how many of its ticks a core cycle takes. Each figure is the best of all batches.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "core/isa.h"
#include "variant/lanes/runner.h"
#include "variant/lanes/variant_lanes.h"

namespace tilewise::variant {
namespace {

std::uint64_t ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

/// The best of a few runs of a chain whose links take 3 core cycles each.
double ticks_per_cycle() {
  constexpr int kLinks = 10000;
  double best = 1e30;
  for (int run = 0; run < 20; ++run) {
    std::uint64_t product = 3;
    const std::uint64_t start = ticks();
    for (int i = 0; i < kLinks; ++i) {
      product *= 0x9E3779B97F4A7C15u;
      benchmark::DoNotOptimize(product);
    }
    best = std::min(best, static_cast<double>(ticks() - start));
  }
  return best / kLinks / 3;
}

/// Runs `work` over `scores` scores and reports core cycles for 8 of them.
template <class Work>
void measure(benchmark::State& state, std::int64_t scores, Work work) {
  const double cycle = ticks_per_cycle();
  double best = 1e30;
  for (auto _ : state) {
    const std::uint64_t start = ticks();
    for (int i = 0; i < 16; ++i) {
      work();
      benchmark::ClobberMemory();
    }
    best = std::min(best, static_cast<double>(ticks() - start) / 16);
  }
  state.counters["cycles_per_8"] = best / cycle / static_cast<double>(scores) * 8;
}

void one_operation(benchmark::State& state, std::size_t number, Type last) {
  constexpr std::int64_t kWords = 1024;
  std::vector<std::vector<std::int32_t>> columns(3, std::vector<std::int32_t>(kWords));
  std::vector<std::int32_t> result(kWords);
  for (std::size_t c = 0; c < columns.size(); ++c) {
    for (std::size_t i = 0; i < kWords; ++i) {
      const float real = 0.01f * static_cast<float>((i * 37 + c * 11) % 1000) + 0.5f;
      const auto word = static_cast<std::int32_t>(i % 97 + 1);
      columns[c][i] = last == Type::real ? std::bit_cast<std::int32_t>(real) : word;
    }
  }
  if (kInfo[number].rule == Rule::select) {
    for (std::size_t i = 0; i < kWords; ++i) columns[0][i] = i % 3 == 0 ? -1 : 0;
  }
  std::vector<Strip> operands;
  for (auto& column : columns) operands.push_back({column.data(), 0, 1});
  const StripCall call{1, kWords, {result.data(), kWords, 1}, operands.data()};
  const StripFunction function = strip_operations(chosen_isa()).operation[number][last == Type::real];
  measure(state, kWords, [&] { function(call); });
}

void one_variant(benchmark::State& state, const std::string& name, std::int64_t queries, std::int64_t keys,
                 bool partial) {
  const Table bias("bias", DType::float32, 2);
  std::vector<float> values(64 * 1024, 0.5f);
  const ConstTensor data(values.data(), DType::float32, {64, 1024});
  const auto causal = [](const At& at) { return at.query >= at.key; };
  const Variant variant = [&] {
    if (name == "causal") return keep(causal);
    if (name == "softcap") return keep(causal) & score([](Expr s, const At&) { return 30 * tanh(s / 30); });
    if (name == "alibi") {
      return keep(causal) & score([](Expr s, const At& at) {
               return s - exp2(-0.5 * to_real(at.head + 1)) * to_real(at.query - at.key);
             });
    }
    if (name == "relative") {
      return score([&](Expr s, const At& at) { return s + bias.clamped(at.head, at.query - at.key + 512); });
    }
    return score([&](Expr s, const At& at) { return s + bias.clamped(at.query_index, at.key_index); });
  }();
  const LaneOptions options{.most_queries = queries, .most_keys = keys, .isa = chosen_isa()};
  const VariantLanes lanes = lower_variant(variant, options);
  const LaneProgram& program = partial ? lanes.partial : lanes.full;
  struct alignas(64) Block {
    std::byte bytes[64];
  };
  std::vector<Block> workspace(static_cast<std::size_t>(program.workspace_bytes() / 64));
  LaneRunner runner(program, std::as_writable_bytes(std::span(workspace)));
  const auto& tables = variant.tables();
  const Bound bound = bind(variant.data().graph, tables.empty() ? Bindings{} : Bindings{{{bias, data}}, {}});
  runner.enter(bound, Place{});
  std::vector<float> scores(static_cast<std::size_t>(queries * keys), 0.25f), in = scores;
  const TileStrip from{in.data(), queries}, to[] = {{scores.data(), queries}};
  std::int64_t key = 0;
  measure(state, queries * keys, [&] {
    runner.run({256, 256 + queries, key, key + keys}, from, {}, to);
    key = key == 0 ? keys : 0;  // a new key tile each time, as in a walk
  });
}

int register_all() {
  const auto add = [](const std::string& name, auto... arguments) {
    benchmark::RegisterBenchmark(name.c_str(), arguments...)->MinTime(0.05);
  };
  for (std::size_t number = 0; number < kInfo.size(); ++number) {
    for (Type last : {Type::int32, Type::real}) {
      if (strip_operations(Isa::baseline).operation[number][last == Type::real] == nullptr) continue;
      add(std::string(kInfo[number].name) + "/" + to_string(last), one_operation, number, last);
    }
  }
  for (const auto& [queries, keys] : {std::pair{96, 256}, std::pair{24, 256}, std::pair{64, 64}}) {
    for (const char* name : {"causal", "softcap", "alibi", "relative", "dense_bias"}) {
      for (const bool partial : {false, true}) {
        const std::string shape = std::to_string(queries) + "x" + std::to_string(keys);
        add(std::string(name) + (partial ? "/partial/" : "/full/") + shape, one_variant, std::string(name),
            std::int64_t{queries}, std::int64_t{keys}, partial);
      }
    }
  }
  return 0;
}
const int kRegistered = register_all();

}  // namespace
}  // namespace tilewise::variant
