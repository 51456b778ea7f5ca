// The blocks of a transformer on rows of hidden states, whatever attention's keys lie in.
//
// Forward only. Each part is a function of its rows and of its weights, so that a backward pass joins it by keeping the
// rows that it read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "attention/arena.h"
#include "nn/parts.h"
#include "tilewise/workspace.h"

namespace tilewise::nn {

/// What attention of a layer reads and writes: rows of tokens, all heads of a row one behind the other.
struct AttentionRows {
  std::int64_t tokens = 0;
  float* q = nullptr;  // [tokens, h_q, d_qk]
  float* k = nullptr;  // [tokens, h_kv, d_qk]
  float* v = nullptr;  // [tokens, h_kv, d_v]
  float* o = nullptr;  // [tokens, h_q, d_v]
};

/// Computes o of a layer.
class Attend {
 public:
  virtual ~Attend() = default;
  virtual void attend(std::int64_t layer, const AttentionRows& rows) = 0;
};

class Blocks {
 public:
  /// Memory for that many tokens. Keeps references.
  Blocks(const Transformer::Parts& parts, std::int64_t tokens, Executor& executor);

  /// Row `row` becomes the embedding of a token at a position.
  void embed(std::int64_t row, std::int32_t token, std::int64_t position);

  /// All blocks on rows [0, tokens). Then the last norm of the rows in `wanted`, rising, moved to the front: what rows
  /// alone still need after the last attention is computed for those alone.
  void forward(std::int64_t tokens, std::span<const std::int64_t> wanted, Attend& attend);

  /// The result of forward(): [wanted, width].
  const float* hidden() const { return hidden_; }

  /// logits [rows, vocabulary] of the first rows of hidden().
  void logits(std::int64_t rows, float* logits);

  std::int64_t bytes() const { return memory_.bytes(); }

 private:
  void take(attention::Arena& arena, std::int64_t tokens);
  void attention_inputs(const BlockPart& block);
  void mlp(const MlpPart& mlp);
  void keep(std::span<const std::int64_t> wanted);
  void enter(const Norm& norm);
  void join(const Norm& norm, const Norm* next);
  void project(const float* x, const Projection& projection, float* y);
  template <class Body>
  void for_rows(std::int64_t elements_of_a_row, const Body& body);

  const float* input() const { return parts_.placement == NormPlacement::before ? normed_ : hidden_; }

  const Transformer::Parts& parts_;
  const TransformerShape& shape_;
  Executor& executor_;
  LinearScratch scratch_;
  Workspace memory_;
  std::int64_t rows_ = 0;     // of this step
  float* hidden_ = nullptr;   // [tokens, width], the residual
  float* normed_ = nullptr;   // [tokens, width], what a part reads, and then what it gives
  float* q_ = nullptr;        // [tokens, h_q, d_qk]
  float* k_ = nullptr;        // [tokens, h_kv, d_qk]
  float* v_ = nullptr;        // [tokens, h_kv, d_v]
  float* o_ = nullptr;        // [tokens, h_q, d_v]
  float* gate_ = nullptr;     // [tokens, mlp]
  float* up_ = nullptr;       // [tokens, mlp]
  float* cosines_ = nullptr;  // [tokens, rotated / 2]
  float* sines_ = nullptr;    // [tokens, rotated / 2]
};

}  // namespace tilewise::nn
