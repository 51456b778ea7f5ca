// What a transformer is put together from: blocks of an attention layer and an MLP, with norms around them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "nn/activation.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/rotary.h"
#include "nn/transformer.h"

namespace tilewise::nn {

/// y = x w^T + bias.
struct Projection {
  Linear weights{};           // [outputs, inputs]
  std::vector<float> bias{};  // [outputs], or empty
};

/// Multi-head, grouped-query or multi-query attention, as h_q and h_kv have it.
struct AttentionPart {
  Projection q{};    // [h_q * d_qk, width]
  Projection k{};    // [h_kv * d_qk, width]
  Projection v{};    // [h_kv * d_v, width]
  Projection out{};  // [width, h_q * d_v]
};

/// down(f(up(x))), or gated: down(f(gate(x)) * up(x)).
struct MlpPart {
  Activation activation = Activation::silu;
  Projection gate{};  // [mlp, width]; no rows: not gated
  Projection up{};    // [mlp, width]
  Projection down{};  // [width, mlp]

  bool is_gated() const { return gate.weights.rows() > 0; }
};

/// Where a part f of a block has its norm.
enum class NormPlacement : std::uint8_t {
  before,  ///< x + f(norm(x)): GPT-2, Llama
  after,   ///< norm(x + f(x)): BERT
  inside,  ///< x + norm(f(x)): Swin v2, OLMo 2
};

struct BlockPart {
  Norm attention_norm{};
  AttentionPart attention{};
  Norm mlp_norm{};
  MlpPart mlp{};
};

/// x = embedding[token] + added + position, normed; the blocks; the last norm; logits.
struct Transformer::Parts {
  TransformerShape shape{};
  Variant variant{};
  NormPlacement placement = NormPlacement::before;

  Linear embedding{};                     // [vocabulary, width]
  std::vector<float> added{};             // [width], or empty: BERT's token type 0
  Linear positions{};                     // [context, width], learned; no rows: none
  bool has_sinusoidal_positions = false;  // Vaswani et al., 2017
  std::optional<Rotary> rotary{};         // of queries and keys
  std::optional<Norm> embedding_norm{};

  std::vector<BlockPart> blocks{};  // [layers]
  std::optional<Norm> last_norm{};
  Linear logits{};  // [vocabulary, width]; no rows: an encoder

  std::vector<std::shared_ptr<const void>> owners{};  // of the memory that weights are views of
};

}  // namespace tilewise::nn
