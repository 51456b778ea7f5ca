// How long does it take to classify all 128 x 128 tiles of a 65536 x 65536 problem, on one core?
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "core/philox.h"
#include "tiles/counts.h"

namespace tilewise {
namespace {

constexpr std::int64_t kLength = 65536;

Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}

Variant window(int size) {
  return keep([=](const At& at) { return at.query >= at.key && at.query - at.key < size; });
}

/// 64 documents of uneven lengths.
Variant documents() {
  std::mt19937 random(1);
  std::vector<std::int32_t> document(kLength);
  std::vector<std::size_t> starts{0};
  while (starts.size() < 64) starts.push_back(random() % kLength);
  std::sort(starts.begin(), starts.end());
  for (const std::size_t start : starts) {
    for (std::size_t i = start; i < document.size(); ++i) ++document[i];
  }
  const Table table = Table::frozen("document", ConstTensor(document.data(), DType::int32, {kLength}));
  return keep([&](const At& at) { return table(at.query) == table(at.key); });
}

/// Blocks of 64: a window of 3, 2 global ones, 3 random ones a row.
Variant bigbird() {
  constexpr int kBlock = 64;
  constexpr std::int64_t kBlocks = kLength / kBlock;
  std::vector<std::uint8_t> random(kBlocks * kBlocks);
  for (std::uint32_t row = 0; row < kBlocks; ++row) {
    const auto words = philox4x32({row, 0, 0, 0}, {0, 0});
    for (int i = 0; i < 3; ++i) random[row * kBlocks + words[static_cast<std::size_t>(i)] % kBlocks] = 1;
  }
  const Table table = Table::frozen("random", ConstTensor(random.data(), DType::boolean, {kBlocks, kBlocks}));
  return keep([&](const At& at) {
    const Expr row = floor_divide(at.query, kBlock), column = floor_divide(at.key, kBlock);
    return abs(row - column) <= 1 || row < 2 || column < 2 || table(row, column);
  });
}

void classify(benchmark::State& state, const Variant& variant) {
  const Problem problem = Problem::uniform(1, 1, 1, kLength, kLength);
  tiles::Classifier classifier(variant, {}, problem);
  std::int64_t calls = 0, empty = 0, partial = 0, full = 0;
  for (auto _ : state) {
    calls = empty = partial = full = 0;
    classifier.walk(0, 0, {128, 128}, [&](const tiles::TileRectangle& tiles, TileClass tile_class) {
      ++calls;
      (tile_class == TileClass::empty ? empty : tile_class == TileClass::full ? full : partial) += tiles.tiles();
    });
  }
  state.counters["rectangles"] = static_cast<double>(calls);
  state.counters["empty"] = static_cast<double>(empty);
  state.counters["partial"] = static_cast<double>(partial);
  state.counters["full"] = static_cast<double>(full);
}

void prepare(benchmark::State& state, const Variant& variant) {
  const Problem problem = Problem::uniform(1, 1, 1, kLength, kLength);
  for (auto _ : state) benchmark::DoNotOptimize(tiles::Classifier(variant, {}, problem));
}

void map(benchmark::State& state, const Variant& variant) {
  const Problem problem = Problem::uniform(1, 1, 1, kLength, kLength);
  tiles::Classifier classifier(variant, {}, problem);
  for (auto _ : state) benchmark::DoNotOptimize(tiles::map_of(classifier, {128, 128}, 0, 0));
}

BENCHMARK_CAPTURE(classify, causal, causal())->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(classify, window, window(1024))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(classify, documents, documents())->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(classify, bigbird, bigbird())->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(map, causal, causal())->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(map, bigbird, bigbird())->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(prepare, causal, causal())->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(prepare, documents, documents())->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(prepare, bigbird, bigbird())->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tilewise
