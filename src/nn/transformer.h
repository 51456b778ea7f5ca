// A transformer: its shape, and how steps of it are computed against a key/value cache, or without one.
//
//   const std::shared_ptr<const Transformer> model = runtime::load_model(path).transformer;
//   KvCache cache(model->cache_shape(pages, DType::bfloat16));
//   Decoder decoder(model, cache.shape(), {.tokens = 512, .chunks = 16, .length = 8192}, executor);
//   cache.append(sequence, tokens);
//   const Chunk chunks[] = {{sequence, tokens, first, Logits::last}};
//   decoder.forward(chunks, cache, logits);  // logits [Decoder::logits_rows(chunks), vocabulary]
//
// Vaswani et al., "Attention Is All You Need" (2017).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "tilewise/executor.h"
#include "tilewise/kv_cache.h"
#include "tilewise/variant.h"

namespace tilewise::nn {

/// Sizes of a transformer.
struct TransformerShape {
  std::int64_t layers = 0;
  std::int64_t width = 0;  ///< Elements of a hidden state.
  std::int64_t h_q = 0;
  std::int64_t h_kv = 0;
  std::int64_t d_qk = 0;
  std::int64_t d_v = 0;
  std::int64_t mlp = 0;         ///< Elements of the MLP's hidden layer.
  std::int64_t vocabulary = 0;  ///< Token ids are below it; logits of a token.
  std::int64_t context = 0;     ///< Positions that it was trained for.

  /// Whether positions are rotations of keys and queries, so that positions from `context` on can be computed and
  /// cached keys be moved. A model with learned positions has none from `context` on, and refuses them.
  bool is_rotary = false;

  /// Whether it is made to see later tokens too, as BERT does. Such a model has no cache and no logits, and a decoder's
  /// model no encoder.
  bool is_encoder = false;
};

/// The weights and how they are put together. Constant, and shared between threads. Made by a family
/// (runtime/load_model.h); it keeps alive what its weights are mapped from.
class Transformer {
 public:
  struct Parts;  // nn/parts.h
  explicit Transformer(std::unique_ptr<const Parts> parts);
  ~Transformer();
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const TransformerShape& shape() const;

  /// The attention that it was trained with: causal, causal in a sliding window, or everything.
  const Variant& variant() const;

  /// A cache for it.
  KvCacheShape cache_shape(std::int64_t pages, DType dtype, std::int64_t page_tokens = 16) const;

  /// Bytes of weights that generating one token reads.
  std::int64_t bytes_of_a_token() const;

  const Parts& parts() const { return *parts_; }

 private:
  std::unique_ptr<const Parts> parts_;
};

/// Of which tokens of a chunk logits are wanted.
enum class Logits : std::uint8_t { none, last, all };

/// Consecutive tokens of a sequence, for which the cache has room (KvCache::append()) that is not written yet. What is
/// before them is written.
struct Chunk {
  KvSequence sequence{};
  std::span<const std::int32_t> tokens{};  // [n], n >= 1
  std::int64_t first = 0;                  ///< Index of tokens[0] in the sequence, which is its position.
  Logits logits = Logits::last;
};

/// The most that a step has, by which memory is taken.
struct StepLimits {
  std::int64_t tokens = 512;   ///< Of all chunks.
  std::int64_t chunks = 16;    ///< Or sequences of an encoder.
  std::int64_t length = 8192;  ///< Of a sequence, all that came before and pages given up included.
};

/// Computes steps of a decoder. Has memory for one step at a time, taken when it is made; a step allocates nothing.
///
/// A step's chunks do not influence each other: with quantised weights a chunk's results are the same bits alone and in
/// any company, with any executor. They do depend on how a sequence is cut into chunks, within rounding.
class Decoder {
 public:
  /// `variant`: in place of the model's own. Throws Error(invalid_argument) where model, cache and limits do not fit
  /// together, Error(unsupported) as Attention::plan() and for a model without logits. The executor must outlive this.
  Decoder(std::shared_ptr<const Transformer> model, const KvCacheShape& cache, const StepLimits& limits,
          Executor& executor, std::optional<Variant> variant = {});
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  /// Computes all chunks: writes their keys and values into the cache, attends through block tables in place, and fills
  /// logits in the chunks' order, tokens in theirs. Does not commit().
  ///
  /// Throws Error(invalid_argument) before any work on chunks past the limits, the cache's room or the model's
  /// positions, on ids outside of the vocabulary, and on two chunks of one sequence; as KvCache::write() on pages that
  /// are not the sequence's own.
  void forward(std::span<const Chunk> chunks, KvCache& cache, float* logits);  // logits [logits_rows, vocabulary]

  static std::int64_t logits_rows(std::span<const Chunk> chunks);

  const Transformer& model() const;
  const Variant& variant() const;
  const StepLimits& limits() const;
  std::int64_t workspace_bytes() const;  ///< Taken when it was made.

 private:
  class State;
  std::unique_ptr<State> state_;
};

/// Computes hidden states of whole sequences by an encoder; otherwise as Decoder.
class Encoder {
 public:
  Encoder(std::shared_ptr<const Transformer> model, const StepLimits& limits, Executor& executor,
          std::optional<Variant> variant = {});
  ~Encoder();
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;

  /// Sequences one behind the other: tokens [sum of lengths]. hidden [sum of lengths, width], after the last norm.
  /// Throws as Decoder::forward().
  void forward(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths, float* hidden);

  const Transformer& model() const;
  const StepLimits& limits() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

/// Keys of a sequence's first tokens as they were cached, to be moved on with the tokens that see them. A variant that
/// keeps the first tokens for good (StreamingLLM) would otherwise see them from further away than the model was trained
/// for. Moves start from the original each time, so that rounding does not add up.
class FirstKeys {
 public:
  /// Reads tokens [0, count) of a sequence. Throws Error(unsupported) for a model that is not rotary.
  FirstKeys(std::shared_ptr<const Transformer> model, const KvCache& cache, KvSequence sequence, std::int64_t count);

  /// Writes them back as if each stood `distance` positions later than it does (0 restores them). Their pages must be
  /// the sequence's own (KvCache::make_private()).
  void move(KvCache& cache, KvSequence sequence, std::int64_t distance);

  std::int64_t count() const { return count_; }

 private:
  Tensor keys(std::int64_t layer) const;    // [h_kv, count, d_qk]
  Tensor values(std::int64_t layer) const;  // [h_kv, count, d_v]

  std::shared_ptr<const Transformer> model_;
  std::int64_t count_;
  std::unique_ptr<float[]> k_, v_;  // [layers, h_kv, count, d_qk], [layers, h_kv, count, d_v]
  std::unique_ptr<float[]> moved_;  // [h_kv, count, d_qk]
};

}  // namespace tilewise::nn
