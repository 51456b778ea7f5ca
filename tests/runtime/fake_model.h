// A model whose answers are known: its logits are a hash of the tokens that the last query sees, read back from the
// cache. Whatever the scheduler does to sequences, the hash tells.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "runtime/sampler.h"
#include "runtime/scheduler.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::runtime {

inline constexpr std::int64_t kVocabulary = 97;

/// Whether a query sees a key, by positions.
using Sees = std::function<bool(std::int64_t query, std::int64_t key)>;

inline Sees causal_sees() {
  return [](std::int64_t query, std::int64_t key) { return key <= query; };
}

/// Logits behind the last of `tokens`.
inline std::vector<float> fake_logits(std::span<const std::int32_t> tokens, const Sees& sees) {
  std::uint64_t hash = 0x9E3779B97F4A7C15;
  const auto last = static_cast<std::int64_t>(tokens.size()) - 1;
  for (std::int64_t key = 0; key <= last; ++key) {
    if (!sees(last, key)) continue;
    const auto token = static_cast<std::uint64_t>(tokens[static_cast<std::size_t>(key)]);
    hash = (hash ^ (token + 1) ^ (static_cast<std::uint64_t>(key) << 20)) * 0xBF58476D1CE4E5B9;
    hash ^= hash >> 29;
  }
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) {
    hash = hash * 6364136223846793005u + 1442695040888963407u;
    logit = static_cast<float>(hash >> 40) * 0x1p-21F;  // in [0, 8)
  }
  return logits;
}

class FakeModel : public StepModel {
 public:
  FakeModel(std::int64_t context, const Variant& variant, Sees sees) : variant_(variant), sees_(std::move(sees)) {
    shape_ = {.layers = 1,
              .width = 1,
              .h_q = 1,
              .h_kv = 1,
              .d_qk = 1,
              .d_v = 1,
              .mlp = 1,
              .vocabulary = kVocabulary,
              .context = context,
              .is_rotary = true};
  }

  static KvCacheShape cache_shape(std::int64_t pages, std::int64_t page_tokens) {
    return {.layers = 1, .h_kv = 1, .d_qk = 1, .d_v = 1, .page_tokens = page_tokens, .pages = pages};
  }

  const nn::TransformerShape& shape() const override { return shape_; }
  const Variant& variant() const override { return variant_; }

  void forward(std::span<const nn::Chunk> chunks, KvCache& cache, float* logits) override {
    if (fails_next) {
      fails_next = false;
      throw Error(ErrorCode::out_of_memory, "as asked for");
    }
    std::map<KvSequence, int> seen;
    for (const nn::Chunk& chunk : chunks) {
      EXPECT_EQ(++seen[chunk.sequence], 1) << "a sequence twice in a step";
      EXPECT_EQ(cache.length(chunk.sequence), chunk.first + static_cast<std::int64_t>(chunk.tokens.size()));
      write(chunk, cache);
      computed_tokens += static_cast<std::int64_t>(chunk.tokens.size());
      largest_chunk = std::max(largest_chunk, static_cast<std::int64_t>(chunk.tokens.size()));
    }
    for (const nn::Chunk& chunk : chunks) {
      if (chunk.logits == nn::Logits::none) continue;
      const auto row = fake_logits(read(cache, chunk.sequence), sees_);
      logits = std::copy(row.begin(), row.end(), logits);
    }
    ++steps;
  }

  std::unique_ptr<MovableKeys> first_keys(const KvCache& cache, KvSequence sequence, std::int64_t count) override {
    return std::make_unique<Moved>(*this, cache, sequence, count);
  }

  std::int64_t computed_tokens = 0, steps = 0, largest_chunk = 0;
  std::map<KvSequence, std::int64_t> moves{};  ///< How far first keys stand from their place.
  std::int64_t most_distance = 0;              ///< Of a query and a key that it sees, moves counted.
  bool fails_next = false;

 private:
  class Moved : public MovableKeys {
   public:
    Moved(FakeModel& model, const KvCache& cache, KvSequence sequence, std::int64_t count)
        : model_(&model), k_(static_cast<std::size_t>(count)), v_(k_.size()) {
      cache.read(sequence, 0, 0, Tensor(k_.data(), DType::float32, {1, count, 1}),
                 Tensor(v_.data(), DType::float32, {1, count, 1}));
    }
    void move(KvCache& cache, KvSequence sequence, std::int64_t distance) override {
      const auto count = static_cast<std::int64_t>(k_.size());
      // Only pages of the sequence's own take this.
      cache.write(sequence, 0, 0, ConstTensor(k_.data(), DType::float32, {1, count, 1}),
                  ConstTensor(v_.data(), DType::float32, {1, count, 1}));
      model_->moves[sequence] = distance;
    }

   private:
    FakeModel* model_;
    std::vector<float> k_, v_;
  };

  /// A key is its token, a value its position.
  void write(const nn::Chunk& chunk, KvCache& cache) {
    const auto count = static_cast<std::int64_t>(chunk.tokens.size());
    std::vector<float> k(chunk.tokens.begin(), chunk.tokens.end()), v;
    for (std::int64_t i = 0; i < count; ++i) v.push_back(static_cast<float>(chunk.first + i));
    cache.write(chunk.sequence, 0, chunk.first, ConstTensor(k.data(), DType::float32, {1, count, 1}),
                ConstTensor(v.data(), DType::float32, {1, count, 1}));
    for (std::int64_t i = 0; i < count; ++i) look(chunk.sequence, chunk.first + i, cache);
  }

  /// Every key that a query sees must be there, and within reach.
  void look(KvSequence sequence, std::int64_t query, const KvCache& cache) {
    const auto table = cache.block_table(sequence);
    const std::int64_t page_tokens = cache.shape().page_tokens;
    const std::int64_t first_moved = moves.contains(sequence) ? moves[sequence] : 0;
    for (std::int64_t key = 0; key <= query; ++key) {
      if (!sees_(query, key)) continue;
      ASSERT_GE(table[static_cast<std::size_t>(key / page_tokens)], 0) << "query " << query << " sees key " << key;
      const bool is_first = first_tokens > 0 && key < first_tokens;
      most_distance = std::max(most_distance, query - key - (is_first ? first_moved : 0));
    }
  }

  /// The tokens of a sequence, 0 where pages are given up.
  static std::vector<std::int32_t> read(const KvCache& cache, KvSequence sequence) {
    const std::int64_t length = cache.length(sequence), page_tokens = cache.shape().page_tokens;
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(length));
    for (std::int64_t begin = 0; begin < length; begin += page_tokens) {
      if (cache.block_table(sequence)[static_cast<std::size_t>(begin / page_tokens)] < 0) continue;
      const std::int64_t count = std::min(page_tokens, length - begin);
      std::vector<float> k(static_cast<std::size_t>(count)), v(k.size());
      cache.read(sequence, 0, begin, Tensor(k.data(), DType::float32, {1, count, 1}),
                 Tensor(v.data(), DType::float32, {1, count, 1}));
      for (std::int64_t i = 0; i < count; ++i) {
        EXPECT_EQ(v[static_cast<std::size_t>(i)], static_cast<float>(begin + i));
        tokens[static_cast<std::size_t>(begin + i)] = static_cast<std::int32_t>(k[static_cast<std::size_t>(i)]);
      }
    }
    return tokens;
  }

  nn::TransformerShape shape_;
  Variant variant_;
  Sees sees_;

 public:
  std::int64_t first_tokens = 0;  ///< That are moved.
};

/// What a sample of a request must come to, computed without cache or scheduler.
struct Expected {
  std::vector<std::int32_t> tokens{};
  Finish finish = Finish::none;
};

inline Expected expected_of(const Request& request, std::int64_t sample, std::int64_t context, bool past_context,
                            std::span<const std::int32_t> end_tokens, const Sees& sees) {
  Expected expected;
  std::vector<std::int32_t> tokens = request.prompt;
  Sampler sampler;
  while (expected.finish == Finish::none) {
    const auto place = static_cast<std::int64_t>(expected.tokens.size());
    const auto token = sampler.choose(request.sampling, sample, fake_logits(tokens, sees), tokens, place);
    if (!token) {
      expected.finish = Finish::no_token;
      break;
    }
    expected.tokens.push_back(*token);
    tokens.push_back(*token);
    if (std::ranges::find(end_tokens, *token) != end_tokens.end() && !request.ignore_end) {
      expected.finish = Finish::end_token;
    } else if (static_cast<std::int64_t>(expected.tokens.size()) == request.most_tokens) {
      expected.finish = Finish::most_tokens;
    } else if (static_cast<std::int64_t>(tokens.size()) > context && !past_context) {
      expected.finish = Finish::context;
    }
  }
  return expected;
}

/// A scheduler with all that it needs.
struct Bench {
  Bench(std::int64_t context, std::int64_t pages, std::int64_t page_tokens, const SchedulerLimits& limits,
        const Variant& variant = zoo::causal(), Sees seen = causal_sees())
      : sees(std::move(seen)),
        model(context, variant, sees),
        cache(FakeModel::cache_shape(pages, page_tokens)),
        scheduler(model, cache, *executor, limits, {.end_tokens = {kEnd}}) {}

  static constexpr std::int32_t kEnd = 7;

  Expected expected(const Request& request, std::int64_t sample = 0) const {
    const std::int32_t end[] = {kEnd};
    return expected_of(request, sample, model.shape().context, scheduler.reach().past_context, end, sees);
  }

  Sees sees;
  FakeModel model;
  KvCache cache;
  std::unique_ptr<Executor> executor = make_thread_pool(1);
  Scheduler scheduler;
};

/// What the events of a sample came to.
struct Got {
  std::vector<std::int32_t> tokens{};
  Finish finish = Finish::none;
};

using GotBySample = std::map<std::pair<RequestId, std::int64_t>, Got>;

inline void collect(const std::vector<TokenEvent>& events, GotBySample& got) {
  for (const TokenEvent& event : events) {
    Got& sample = got[{event.request, event.sample}];
    EXPECT_EQ(sample.finish, Finish::none) << "an event behind the end";
    if (event.token >= 0) sample.tokens.push_back(event.token);
    sample.finish = event.finish;
  }
}

inline std::vector<std::int32_t> numbers(std::int64_t count, std::int32_t from = 0) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>((from + 31 * i + i * i) % kVocabulary));
  }
  return tokens;
}

}  // namespace tilewise::runtime
