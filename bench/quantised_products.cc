// How fast are products of quantised weights, for one token (which reads every weight once) and for many (which shares
// them)? Shapes are SmolLM2-135M's MLP. Arguments: instruction set (0 is the best that this processor has), kind of
// weights, tokens.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "core/half.h"
#include "nn/quantised.h"

namespace {

using tilewise::nn::WeightKind;

void products(benchmark::State& state) {
  const auto all = tilewise::nn::available_quantised_kernels();
  const auto which = static_cast<std::size_t>(state.range(0));
  if (which >= all.size()) return state.SkipWithError("this processor has no more instruction sets");
  const auto kind = static_cast<WeightKind>(state.range(1));
  const std::int64_t rows = 1536, columns = 576, tokens = state.range(2),
                     blocks = rows * columns / tilewise::nn::kBlock;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::byte> stored(static_cast<std::size_t>(blocks * tilewise::nn::block_bytes(kind)));
  for (std::byte& byte : stored) byte = static_cast<std::byte>(random());
  for (std::int64_t b = 0; b < blocks; ++b) {
    const tilewise::Float16 halves[2] = {tilewise::Float16{0.01F}, tilewise::Float16{-0.08F}};
    std::memcpy(stored.data() + b * tilewise::nn::block_bytes(kind), halves, kind == WeightKind::q4_1 ? 4 : 2);
  }
  std::vector<float> x(static_cast<std::size_t>(tokens * columns)), y(static_cast<std::size_t>(tokens * rows));
  for (float& value : x) value = normal(random);
  std::vector<tilewise::nn::ActivationBlock> rounded(x.size() / tilewise::nn::kBlock);
  for (auto _ : state) {
    tilewise::nn::quantise_activations(x.data(), tokens, columns, rounded.data());
    all[which]->multiply({kind, rows, columns, stored.data()}, 0, rows, rounded.data(), tokens, y.data(), rows);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetLabel(to_string(all[which]->isa));
  state.SetItemsProcessed(state.iterations() * rows * columns * tokens);  // multiply-adds
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(stored.size()));
}
BENCHMARK(products)->ArgsProduct({{0, 1}, {0, 1, 2}, {1, 128}})->Unit(benchmark::kMicrosecond);

}  // namespace
