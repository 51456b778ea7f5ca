// How long does MiniLM take for 256 sentences of 64 tokens? Arguments: the model's safetensors file, threads, repeats.
// Prints the seconds of each; bench/compare_embed.py runs it beside PyTorch.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "tilewise/executor.h"
#include "tilewise/model.h"

namespace {

constexpr int kSentences = 256, kWords = 62;  // a token each, and two special ones

/// Words that are one token each.
std::vector<std::string> sentences() {
  constexpr const char* kVocabulary[] = {"cat", "house", "river", "stone", "light", "green", "music", "paper"};
  std::vector<std::string> all(kSentences);
  for (int i = 0; i < kSentences; ++i) {
    for (int j = 0; j < kWords; ++j) {
      if (j > 0) all[static_cast<std::size_t>(i)] += ' ';
      all[static_cast<std::size_t>(i)] += kVocabulary[(i * 7 + j * 3 + i * j) % 8];
    }
  }
  return all;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    fmt::print(stderr, "usage: bench_embed MODEL THREADS REPEATS\n");
    return 2;
  }
  const auto pool = tilewise::make_thread_pool(std::atoi(arguments[2]));
  tilewise::ModelOptions options;
  options.executor = pool.get();
  const tilewise::Model model = tilewise::Model::open(arguments[1], options);
  const std::vector<std::string> texts = sentences();
  for (int i = 0; i < std::atoi(arguments[3]); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (model.embed(texts).empty()) return 1;
    fmt::print("{}\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
}
