// How long does it take to classify all 128 x 128 tiles of a 65536 x 65536 problem, on one core; and how long to record
// a variant and make its mask ready for that?
//
//   classify/<variant>   the descending walk; its counters say how many tiles are empty, partial and full
//   prepare/<variant>    what a Classifier costs once a variant and problem: binding, the mask's program, range indexes
//   lower/<zoo entry>    from the text of the entry's example to a classifier: parsing, recording, key, mask program
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/philox.h"
#include "tiles/counts.h"
#include "tilewise/zoo_entry.h"

namespace tilewise {
namespace {

constexpr std::int64_t kLength = 65536;

/// 64 documents of uneven lengths, kLength tokens in all.
std::vector<std::int32_t> document_lengths() {
  std::mt19937 random(1);  // its numbers are the same on every platform
  std::vector<std::int32_t> starts{0, kLength};
  while (starts.size() < 65) starts.push_back(static_cast<std::int32_t>(random() % kLength));
  std::sort(starts.begin(), starts.end());
  std::vector<std::int32_t> lengths;
  for (std::size_t i = 1; i < starts.size(); ++i) lengths.push_back(starts[i] - starts[i - 1]);
  return lengths;
}

Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}

Variant window() {
  return keep([](const At& at) { return at.query >= at.key && at.query - at.key < 1024; });
}

Variant documents() {
  std::vector<std::int32_t> document;
  for (const std::int32_t length : document_lengths())
    document.insert(document.end(), static_cast<std::size_t>(length), document.empty() ? 0 : document.back() + 1);
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
    for (std::size_t i = 0; i < 3; ++i) random[row * kBlocks + words[i] % kBlocks] = 1;
  }
  const Table table = Table::frozen("random", ConstTensor(random.data(), DType::boolean, {kBlocks, kBlocks}));
  return keep([&](const At& at) {
    const Expr row = floor_divide(at.query, kBlock), column = floor_divide(at.key, kBlock);
    return abs(row - column) <= 1 || row < 2 || column < 2 || table(row, column);
  });
}

Problem problem() { return Problem::uniform(1, 1, 1, kLength, kLength); }

void classify(benchmark::State& state, const Variant& variant) {
  tiles::Classifier classifier(variant, {}, problem());
  std::int64_t visits = 0, tiles[3] = {};
  for (auto _ : state) {
    visits = tiles[0] = tiles[1] = tiles[2] = 0;
    classifier.walk(0, 0, {128, 128}, [&](const tiles::TileRectangle& rectangle, TileClass tile_class) {
      ++visits;
      tiles[static_cast<std::size_t>(tile_class)] += rectangle.tiles();
    });
  }
  state.counters["visits"] = static_cast<double>(visits);
  for (const TileClass tile_class : {TileClass::empty, TileClass::partial, TileClass::full})
    state.counters[to_string(tile_class)] = static_cast<double>(tiles[static_cast<std::size_t>(tile_class)]);
}

void prepare(benchmark::State& state, const Variant& variant) {
  const Problem shape = problem();
  for (auto _ : state) benchmark::DoNotOptimize(tiles::Classifier(variant, {}, shape));
}

void lower(benchmark::State& state, const std::string& text) {
  const Problem shape = problem();
  for (auto _ : state) {
    const Variant variant = parse_variant(text);
    benchmark::DoNotOptimize(variant.key());
    benchmark::DoNotOptimize(tiles::Classifier(variant, {}, shape));
  }
}

bool needs_bindings(const Variant& variant) {
  const auto& tables = variant.tables();
  return !variant.parameters().empty() ||
         std::any_of(tables.begin(), tables.end(), [](const Table& table) { return !table.frozen_data(); });
}

/// Examples of the zoo whose lengths are a thousand or so, at kLength.
std::map<std::string, std::string, std::less<>> long_examples() {
  std::string lengths, parents = "-1", halves = "0";
  for (const std::int32_t length : document_lengths())
    lengths += (lengths.empty() ? "" : ", ") + std::to_string(length);
  for (int node = 1; node < 1024; ++node) parents += ", " + std::to_string((node - 1) / 2);
  for (int start = 4096; start < kLength; start += 4096) halves += ", " + std::to_string(start);
  return {
      {"axial", "axial(256, 256, 0)"},
      {"bigbird", "bigbird(64, 3, 2, 3, 65536, 0)"},
      {"block_diffusion", "block_diffusion(16, 32768)"},
      {"cross_to_media", "cross_to_media([" + halves + "], 4096)"},
      {"documents", "documents([" + lengths + "])"},
      {"neighbourhood_1d", "neighbourhood_1d(65536, 1023, 1, 2)"},
      {"neighbourhood_2d", "neighbourhood_2d([256, 256], [13, 13])"},
      {"neighbourhood_3d", "neighbourhood_3d([16, 64, 64], [3, 7, 7])"},
      {"padding", "padding([60000])"},
      {"prefix_lm", "prefix_lm(16384)"},
      {"shared_prefix", "shared_prefix(16384, [" + lengths + "])"},
      {"tiled_window_2d", "tiled_window_2d([256, 256], [16, 16], [3, 3])"},
      {"tiled_window_3d", "tiled_window_3d([16, 64, 64], [4, 8, 8], [3, 3, 3])"},
      {"tree", "tree([" + parents + "], 64512)"},
  };
}

void register_zoo() {
  const auto longer = long_examples();
  for (const zoo::Entry& entry : zoo::entries()) {
    const std::string name(entry.name), example(entry.example);
    if (needs_bindings(parse_variant(example))) continue;
    const auto found = longer.find(entry.name);
    const Variant variant = parse_variant(found == longer.end() ? example : found->second);
    benchmark::RegisterBenchmark(("zoo_classify/" + name).c_str(), classify, variant)->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(("lower/" + name).c_str(), lower, example)->Unit(benchmark::kMicrosecond);
  }
}

const bool kRegistered = [] {
  const std::pair<const char*, Variant> variants[] = {
      {"causal", causal()}, {"window", window()}, {"documents", documents()}, {"bigbird", bigbird()}};
  for (const auto& [name, variant] : variants) {
    benchmark::RegisterBenchmark((std::string("classify/") + name).c_str(), classify, variant)
        ->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark((std::string("prepare/") + name).c_str(), prepare, variant)
        ->Unit(benchmark::kMicrosecond);
  }
  register_zoo();
  return true;
}();

}  // namespace
}  // namespace tilewise
