// What do a model's linear layers cost, and nothing else of it? All matrices of SmolLM2-135M (quantised) for a token, a
// batch and a prompt; those of MiniLM (float32) for 256 sentences of 64 tokens; packing the former into panels. Items
// are tokens. Arguments: tokens, threads.
#include <benchmark/benchmark.h>

#include <numeric>
#include <random>
#include <vector>

#include "nn/linear.h"

namespace {

using namespace tilewise::nn;

struct Shape {
  std::int64_t rows, columns;
};

/// A layer: products that share their input stand together.
using Layer = std::vector<std::vector<Shape>>;
const Layer kSmollm{{{576, 576}, {192, 576}, {192, 576}}, {{576, 576}}, {{1536, 576}, {1536, 576}}, {{576, 1536}}};
const Layer kMiniLm{{{384, 384}, {384, 384}, {384, 384}}, {{384, 384}}, {{1536, 384}}, {{384, 1536}}};
constexpr int kSmollmLayers = 30, kMiniLmLayers = 6;

/// Weights as a file has them: small numbers, whatever the kind.
class Stored {
 public:
  Stored(WeightKind kind, Shape shape) : kind_(kind), shape_(shape) {
    const BlockSize size = block_size(kind);
    bytes_.resize(static_cast<std::size_t>(shape.rows * shape.columns / size.elements * size.bytes));
    std::uint32_t random = 1;
    for (std::byte& byte : bytes_) byte = static_cast<std::byte>((random = random * 1664525 + 1013904223) >> 24 & 0x3B);
  }
  WeightMatrix matrix() const { return {kind_, shape_.rows, shape_.columns, bytes_.data()}; }

 private:
  WeightKind kind_;
  Shape shape_;
  std::vector<std::byte> bytes_;
};

struct Model {
  std::vector<Stored> stored{};
  std::vector<std::vector<Linear>> steps{};  // products of each share their input

  Model(const Layer& layer, int layers, WeightKind kind, tilewise::Executor& executor) {
    stored.reserve(1000);
    for (int i = 0; i < layers; ++i) {
      for (const auto& shapes : layer) add(shapes, kind, executor);
    }
  }
  void add(const std::vector<Shape>& shapes, WeightKind kind, tilewise::Executor& executor) {
    steps.emplace_back();
    for (const Shape& shape : shapes) {
      steps.back().emplace_back(stored.emplace_back(kind, shape).matrix(), Precision::rounded, executor);
    }
  }
  std::int64_t bytes() const {
    std::int64_t sum = 0;
    for (const auto& step : steps) {
      for (const Linear& weights : step) sum += weights.bytes();
    }
    return sum;
  }
};

class Memory {
 public:
  Memory(std::int64_t tokens) : x_(random(tokens * 1536)) {
    // A batch has logits for each token, a prompt for one.
    for (auto& y : y_) y.resize(static_cast<std::size_t>(tokens * (tokens > 64 ? 1536 : 49152)));
  }
  void run(const std::vector<Linear>& step, std::int64_t tokens, tilewise::Executor& executor) {
    std::vector<Product> products;
    for (std::size_t i = 0; i < step.size(); ++i) {
      products.push_back({.weights = &step[i], .y = y_[i].data(), .y_stride = step[i].rows()});
    }
    const std::int64_t columns = step[0].columns();
    multiply({.data = x_.data(), .count = tokens, .columns = columns, .stride = columns}, products, scratch_, executor);
    benchmark::DoNotOptimize(y_[0].data());
  }

 private:
  static std::vector<float> random(std::int64_t count) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
  }
  std::vector<float> x_, y_[3];
  LinearScratch scratch_;
};

void smollm(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  const auto pool = tilewise::make_thread_pool(static_cast<int>(state.range(1)));
  Model model(kSmollm, kSmollmLayers, WeightKind::q4_1, *pool);
  // Logits are those of the last token of a prompt, and of every token of a batch.
  const bool prompt = tokens > 64;
  model.add({{49152, 576}}, WeightKind::q8_0, *pool);
  Memory memory(tokens);
  for (auto _ : state) {
    for (const auto& step : model.steps) memory.run(step, &step == &model.steps.back() && prompt ? 1 : tokens, *pool);
  }
  state.SetItemsProcessed(state.iterations() * tokens);
  state.SetBytesProcessed(state.iterations() * model.bytes());
}
BENCHMARK(smollm)->ArgsProduct({{1, 16, 512}, {1, 4}})->UseRealTime()->Unit(benchmark::kMillisecond);

/// What generating is bound by: reading as many bytes, with nothing done to them.
void reading(benchmark::State& state) {
  const auto pool = tilewise::make_thread_pool(static_cast<int>(state.range(0)));
  constexpr std::int64_t kParts = 32, kWords = std::int64_t{96} << 20 >> 3;
  const std::vector<std::uint64_t> memory(kWords, 1);
  std::vector<std::uint64_t> sums(kParts);
  for (auto _ : state) {
    pool->parallel_for(kParts, [&](std::int64_t part, int) {
      const std::uint64_t* from = memory.data() + part * (kWords / kParts);
      sums[static_cast<std::size_t>(part)] = std::accumulate(from, from + kWords / kParts, std::uint64_t{0});
    });
    benchmark::DoNotOptimize(sums.data());
  }
  state.SetBytesProcessed(state.iterations() * kWords * 8);
}
BENCHMARK(reading)->Arg(1)->Arg(4)->UseRealTime()->Unit(benchmark::kMillisecond);

void minilm(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  const auto pool = tilewise::make_thread_pool(static_cast<int>(state.range(1)));
  const Model model(kMiniLm, kMiniLmLayers, WeightKind::float32, *pool);
  Memory memory(tokens);
  for (auto _ : state) {
    for (const auto& step : model.steps) memory.run(step, tokens, *pool);
  }
  state.SetItemsProcessed(state.iterations() * tokens);
}
BENCHMARK(minilm)->ArgsProduct({{1024, 256 * 64}, {1, 4}})->UseRealTime()->Unit(benchmark::kMillisecond);

void packing(benchmark::State& state) {
  const auto pool = tilewise::make_thread_pool(static_cast<int>(state.range(0)));
  const Model model(kSmollm, kSmollmLayers, WeightKind::q4_1, *pool);
  for (auto _ : state) {
    for (const Stored& stored : model.stored) {
      const Linear packed(stored.matrix(), Precision::rounded, *pool);
      benchmark::DoNotOptimize(packed.stored());
    }
  }
}
BENCHMARK(packing)->Arg(1)->Arg(4)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
