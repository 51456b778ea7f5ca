// Steps of a decoder: chunks of several sequences at a time, over a key/value cache.
#include <algorithm>
#include <vector>

#include "core/fail.h"
#include "nn/blocks.h"
#include "nn/transformer.h"
#include "tilewise/attention.h"

namespace tilewise::nn {
namespace {

const Transformer& expect_decoder(const std::shared_ptr<const Transformer>& model) {
  if (model == nullptr) fail_argument("model is null; expected a transformer");
  if (!model->shape().is_encoder) return *model;
  fail(ErrorCode::unsupported,
       "the model is an encoder, which sees later tokens too and has no logits; it gives "
       "hidden states of whole texts (embeddings), and generates nothing");
}

void check_limits(const StepLimits& limits) {
  if (limits.tokens < 1 || limits.chunks < 1 || limits.length < 1) {
    fail_argument("limits of {} tokens, {} chunks, length {}; expected at least 1 each", limits.tokens, limits.chunks,
                  limits.length);
  }
}

bool same(const KvCacheShape& a, const KvCacheShape& b) {
  return a.layers == b.layers && a.h_kv == b.h_kv && a.d_qk == b.d_qk && a.d_v == b.d_v &&
         a.page_tokens == b.page_tokens && a.dtype == b.dtype;
}

}  // namespace

class Decoder::State final : public Attend {
 public:
  State(std::shared_ptr<const Transformer> model, const KvCacheShape& cache, const StepLimits& limits,
        Executor& executor, std::optional<Variant> variant)
      : model_(std::move(model)),
        cache_shape_(cache),
        limits_(limits),
        executor_(executor),
        plan_(planned(executor, variant ? *variant : model_->variant())),
        workspace_(plan_.workspace_bytes()),
        blocks_(model_->parts(), limits.tokens, executor) {
    const auto chunks = static_cast<std::size_t>(limits.chunks);
    sequences_.reserve(chunks);
    inputs_.sequences.reserve(chunks);
    wanted_.reserve(static_cast<std::size_t>(limits.tokens));
    writes_.reserve(chunks + static_cast<std::size_t>(limits.tokens / kTokensOfWrite));
    // Not written before it is used, so long sequences that never come take nothing from the system.
    table_ = std::make_unique_for_overwrite<std::int32_t[]>(chunks * static_cast<std::size_t>(most_pages()));
  }

  void forward(std::span<const Chunk> chunks, KvCache& cache, float* logits);
  void attend(std::int64_t layer, const AttentionRows& rows) override;

  const Transformer& model() const { return *model_; }
  const StepLimits& limits() const { return limits_; }
  const Variant& variant() const { return plan_.variant(); }
  std::int64_t bytes() const { return workspace_.bytes() + blocks_.bytes(); }

 private:
  static constexpr std::int64_t kTokensOfWrite = 16;

  std::int64_t most_pages() const { return (limits_.length - 1) / cache_shape_.page_tokens + 1; }
  Plan planned(Executor& executor, const Variant& variant) const;
  std::int64_t check(std::span<const Chunk> chunks, const KvCache& cache) const;
  void check(const Chunk& chunk, std::size_t number, const KvCache& cache) const;
  void start(std::span<const Chunk> chunks, const KvCache& cache);

  std::shared_ptr<const Transformer> model_;
  KvCacheShape cache_shape_;
  StepLimits limits_;
  Executor& executor_;
  Plan plan_;
  Workspace workspace_;
  Blocks blocks_;

  /// Tokens [first, first + count) of a chunk, whose keys and values go to the cache together.
  struct Write {
    std::size_t chunk;
    std::int64_t first, count;
    std::int64_t row;  // of the first one, in the step
  };

  // Of a step.
  std::span<const Chunk> chunks_;
  KvCache* cache_ = nullptr;
  std::vector<KvSequence> sequences_;  // [chunks]
  std::vector<std::int64_t> wanted_;   // rows of tokens whose logits are wanted
  std::vector<Write> writes_;
  std::unique_ptr<std::int32_t[]> table_;  // [chunks, pages]
  ForwardInputs inputs_;
};

Plan Decoder::State::planned(Executor& executor, const Variant& variant) const {
  const TransformerShape& s = model_->shape();
  if (!same(cache_shape_, model_->cache_shape(cache_shape_.pages, cache_shape_.dtype, cache_shape_.page_tokens))) {
    fail_argument("the cache is of {} layers, h_kv {}, d_qk {}, d_v {}; expected those of the model, {}, {}, {}, {}",
                  cache_shape_.layers, cache_shape_.h_kv, cache_shape_.d_qk, cache_shape_.d_v, s.layers, s.h_kv, s.d_qk,
                  s.d_v);
  }
  return Attention(variant).plan({.kv_dtype = cache_shape_.dtype,
                                  .b = limits_.chunks,
                                  .h_q = s.h_q,
                                  .h_kv = s.h_kv,
                                  .d_qk = s.d_qk,
                                  .d_v = s.d_v,
                                  .s_q = std::min(limits_.tokens, limits_.length),
                                  .s_kv = limits_.length},
                                 Device::cpu(executor));
}

/// Returns the number of tokens.
std::int64_t Decoder::State::check(std::span<const Chunk> chunks, const KvCache& cache) const {
  if (!same(cache.shape(), cache_shape_)) fail_argument("the cache has another shape than the decoder was made for");
  if (static_cast<std::int64_t>(chunks.size()) > limits_.chunks)
    fail_argument("{} chunks; expected at most StepLimits::chunks, {}", chunks.size(), limits_.chunks);
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    check(chunks[i], i, cache);
    tokens += static_cast<std::int64_t>(chunks[i].tokens.size());
    for (std::size_t j = 0; j < i; ++j) {
      if (chunks[i].sequence == chunks[j].sequence) fail_argument("chunks {} and {} are of one sequence", j, i);
    }
  }
  if (tokens > limits_.tokens)
    fail_argument("{} tokens in a step; expected at most StepLimits::tokens, {}", tokens, limits_.tokens);
  return tokens;
}

void Decoder::State::check(const Chunk& chunk, std::size_t number, const KvCache& cache) const {
  const auto count = static_cast<std::int64_t>(chunk.tokens.size());
  const std::int64_t length = cache.length(chunk.sequence);
  if (count < 1) fail_argument("chunk {} has no tokens", number);
  if (chunk.first < 0 || chunk.first > length - count) {
    fail_argument("chunk {} is tokens [{}, {} + {}) of a sequence that has {}; KvCache::append() makes room", number,
                  chunk.first, chunk.first, count, length);
  }
  if (chunk.first + count > limits_.length) {
    fail_argument("chunk {} ends at token {} of its sequence; expected at most StepLimits::length, {}", number,
                  chunk.first + count, limits_.length);
  }
  const TransformerShape& s = model_->shape();
  if (model_->parts().positions.rows() > 0 && chunk.first + count > s.context) {
    fail_argument("chunk {} ends at token {} of its sequence, but the model has learned {} positions, its context",
                  number, chunk.first + count, s.context);
  }
  for (const std::int32_t token : chunk.tokens) {
    if (token < 0 || token >= s.vocabulary)
      fail_argument("chunk {} has token {}; expected [0, {}), the vocabulary", number, token, s.vocabulary);
  }
}

void Decoder::State::start(std::span<const Chunk> chunks, const KvCache& cache) {
  sequences_.clear();
  inputs_.sequences.clear();
  wanted_.clear();
  writes_.clear();
  std::int64_t row = 0, pages = 1;
  for (const Chunk& chunk : chunks) {
    const auto count = static_cast<std::int64_t>(chunk.tokens.size());
    sequences_.push_back(chunk.sequence);
    inputs_.sequences.push_back({.s_q = count, .s_kv = chunk.first + count, .first_query_token = row});
    pages = std::max(pages, static_cast<std::int64_t>(cache.block_table(chunk.sequence).size()));
    if (chunk.logits == Logits::last) wanted_.push_back(row + count - 1);
    for (std::int64_t i = 0; i < count; ++i) {
      if (chunk.logits == Logits::all) wanted_.push_back(row + i);
      blocks_.embed(row + i, chunk.tokens[static_cast<std::size_t>(i)], chunk.first + i);
    }
    for (std::int64_t i = 0; i < count; i += kTokensOfWrite) {
      writes_.push_back({sequences_.size() - 1, i, std::min(kTokensOfWrite, count - i), row + i});
    }
    row += count;
  }
  Tensor table(table_.get(), DType::int32, {static_cast<std::int64_t>(chunks.size()), pages});
  cache.fill_block_table(sequences_, table);
  inputs_.block_table = table;
}

void Decoder::State::forward(std::span<const Chunk> chunks, KvCache& cache, float* logits) {
  if (chunks.empty()) return;
  const std::int64_t tokens = check(chunks, cache);
  start(chunks, cache);
  chunks_ = chunks;
  cache_ = &cache;
  blocks_.forward(tokens, wanted_, *this);
  if (!wanted_.empty()) blocks_.logits(static_cast<std::int64_t>(wanted_.size()), logits);
}

void Decoder::State::attend(std::int64_t layer, const AttentionRows& rows) {
  const TransformerShape& s = model_->shape();
  const auto heads = [](float* data, std::int64_t count, std::int64_t h, std::int64_t d) {
    return Tensor(data, DType::float32, std::array{h, count, d}, std::array{d, h * d, std::int64_t{1}});
  };
  executor_.parallel_for(static_cast<std::int64_t>(writes_.size()), [&](std::int64_t index, int) {
    const Write& write = writes_[static_cast<std::size_t>(index)];
    const Chunk& chunk = chunks_[write.chunk];
    cache_->write(chunk.sequence, layer, chunk.first + write.first,
                  heads(rows.k + write.row * s.h_kv * s.d_qk, write.count, s.h_kv, s.d_qk),
                  heads(rows.v + write.row * s.h_kv * s.d_v, write.count, s.h_kv, s.d_v));
  });
  if (rows.tokens == 0) return;
  inputs_.q = heads(rows.q, rows.tokens, s.h_q, s.d_qk);
  inputs_.k = cache_->k(layer);
  inputs_.v = cache_->v(layer);
  inputs_.k_scales = cache_->k_scales(layer);
  inputs_.v_scales = cache_->v_scales(layer);
  plan_.forward(inputs_, {.o = heads(rows.o, rows.tokens, s.h_q, s.d_v)}, workspace_);
}

Decoder::Decoder(std::shared_ptr<const Transformer> model, const KvCacheShape& cache, const StepLimits& limits,
                 Executor& executor, std::optional<Variant> variant) {
  expect_decoder(model);
  check_limits(limits);
  state_ = std::make_unique<State>(std::move(model), cache, limits, executor, std::move(variant));
}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

void Decoder::forward(std::span<const Chunk> chunks, KvCache& cache, float* logits) {
  state_->forward(chunks, cache, logits);
}

std::int64_t Decoder::logits_rows(std::span<const Chunk> chunks) {
  std::int64_t rows = 0;
  for (const Chunk& chunk : chunks) {
    if (chunk.logits == Logits::last) ++rows;
    if (chunk.logits == Logits::all) rows += static_cast<std::int64_t>(chunk.tokens.size());
  }
  return rows;
}

const Transformer& Decoder::model() const { return state_->model(); }
const Variant& Decoder::variant() const { return state_->variant(); }
const StepLimits& Decoder::limits() const { return state_->limits(); }
std::int64_t Decoder::workspace_bytes() const { return state_->bytes(); }

}  // namespace tilewise::nn
