// How fast are products of quantised weights, for one token (which reads every weight once) and for many (which shares
// them)? The shape is SmolLM2-135M's MLP; for one token so many such matrices that no cache holds them. Arguments:
// instruction set (0 is the best that this processor has), kind of weights, tokens.
#include <benchmark/benchmark.h>

#include <fmt/format.h>

#include <random>
#include <vector>

#include "nn/quantised.h"

namespace {

using namespace tilewise::nn;

constexpr std::int64_t kRows = 1536, kColumns = 576;

PanelMatrix some_weights(WeightKind kind, std::int64_t rows, std::int64_t columns) {
  const BlockSize size = block_size(kind);
  std::vector<std::byte> stored(static_cast<std::size_t>(rows * columns / size.elements * size.bytes));
  // Any float16 below infinity will do for a scale.
  std::uint32_t random = 1;
  for (std::byte& byte : stored) byte = static_cast<std::byte>((random = random * 1664525 + 1013904223) >> 24 & 0x7B);
  return to_panels({kind, rows, columns, stored.data()}, tilewise::default_executor());
}

void products(benchmark::State& state) {
  const auto all = available_quantised_kernels();
  const auto which = static_cast<std::size_t>(state.range(0));
  if (which >= all.size()) return state.SkipWithError("this processor has no more instruction sets");
  const auto kind = static_cast<WeightKind>(state.range(1));
  const std::int64_t tokens = state.range(2), rows = tokens == 1 ? 128 * kRows : kRows;
  const std::int64_t columns = panel_shape(kind).nested ? 512 : kColumns;
  const PanelMatrix weights = some_weights(kind, rows, columns);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(tokens * columns)), y(static_cast<std::size_t>(tokens * rows));
  for (float& value : x) value = normal(random);
  std::vector<ActivationBlock> rounded(x.size() / kBlock);
  for (auto _ : state) {
    all[which]->round(x.data(), columns, tokens, columns, rounded.data());
    all[which]->multiply(weights, 0, weights.panels(), rounded.data(), tokens, y.data(), rows);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetLabel(fmt::format("{} {}", to_string(all[which]->isa), to_string(kind)));
  state.SetItemsProcessed(state.iterations() * rows * columns * tokens);  // multiply-adds
  state.SetBytesProcessed(state.iterations() * weights.panels() * weights.panel_bytes());
}
BENCHMARK(products)->ArgsProduct({{0, 1, 2}, {3, 4, 5, 6, 7, 8, 9, 10}, {1, 16, 96}})->Unit(benchmark::kMicrosecond);

/// Rounding the activations of 96 tokens.
void rounding(benchmark::State& state) {
  const auto all = available_quantised_kernels();
  const auto which = static_cast<std::size_t>(state.range(0));
  if (which >= all.size()) return state.SkipWithError("this processor has no more instruction sets");
  constexpr std::int64_t kTokens = 96;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(kTokens * kColumns);
  for (float& value : x) value = normal(random);
  std::vector<ActivationBlock> rounded(x.size() / kBlock);
  for (auto _ : state) {
    all[which]->round(x.data(), kColumns, kTokens, kColumns, rounded.data());
    benchmark::DoNotOptimize(rounded.data());
  }
  state.SetLabel(to_string(all[which]->isa));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(x.size()));
}
BENCHMARK(rounding)->DenseRange(0, 3)->Unit(benchmark::kMicrosecond);

}  // namespace
