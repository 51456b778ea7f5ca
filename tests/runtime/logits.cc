// Writes a model's logits, for compare_logits.py.
//
// Usage: tilewise_runtime_logits <model> <tokens> <logits> <rounded|precise> <cache dtype> <tokens of a chunk>
// [variant]
//
// <tokens> holds int32 ids of one sequence; <logits> becomes float32 [tokens, vocabulary].
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "runtime/load_model.h"
#include "tilewise/variant.h"

namespace {

using tilewise::nn::Chunk;

int run(const std::vector<std::string>& arguments) {
  std::ifstream file(arguments[1], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::int32_t> tokens(bytes.size() / sizeof(std::int32_t));
  std::copy_n(bytes.data(), tokens.size() * sizeof(std::int32_t), reinterpret_cast<char*>(tokens.data()));

  const auto precision =
      arguments[3] == "precise" ? tilewise::nn::Precision::precise : tilewise::nn::Precision::rounded;
  const auto before = std::chrono::steady_clock::now();
  const auto model = tilewise::runtime::load_model(arguments[0], precision).transformer;
  const auto loaded = std::chrono::steady_clock::now();
  const auto count = static_cast<std::int64_t>(tokens.size()), chunk = std::int64_t{std::stoll(arguments[5])};
  tilewise::KvCache cache(model->cache_shape(count / 16 + 1, tilewise::dtype_from_string(arguments[4])));
  std::optional<tilewise::Variant> variant;
  if (arguments.size() > 6) variant = tilewise::parse_variant(arguments[6]);
  tilewise::nn::Decoder decoder(model, cache.shape(), {.tokens = chunk, .chunks = 1, .length = count},
                                tilewise::default_executor(), variant);
  const tilewise::KvSequence sequence = cache.start();
  std::ofstream out(arguments[2], std::ios::binary);
  std::vector<float> logits(static_cast<std::size_t>(chunk * model->shape().vocabulary));
  double seconds = 0;
  for (std::int64_t first = 0; first < count; first += chunk) {
    const auto part = std::span(tokens).subspan(static_cast<std::size_t>(first),
                                                static_cast<std::size_t>(std::min(chunk, count - first)));
    const auto start = std::chrono::steady_clock::now();
    cache.append(sequence, part);
    const Chunk step[] = {{sequence, part, first, tilewise::nn::Logits::all}};
    decoder.forward(step, cache, logits.data());
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    out.write(reinterpret_cast<const char*>(logits.data()),
              static_cast<std::streamsize>(part.size() * static_cast<std::size_t>(model->shape().vocabulary) *
                                           sizeof(float)));
  }
  std::printf("loaded in %.3f s; %lld tokens in %.3f s\n", std::chrono::duration<double>(loaded - before).count(),
              static_cast<long long>(count), seconds);
  return out.good() ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 7) {
    std::fprintf(stderr, "see the head of logits.cc\n");
    return 2;
  }
  try {
    return run({arguments + 1, arguments + count});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
