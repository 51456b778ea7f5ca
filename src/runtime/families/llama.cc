// Llama and what is built like it: root mean square norms before attention and a gated MLP, rotary embedding.
// Touvron et al., "LLaMA" (2023); Qwen2 adds biases to q, k and v, Mistral a sliding window.
#include <fmt/format.h>

#include "core/fail.h"
#include "runtime/families/family.h"
#include "tilewise/zoo.h"

namespace tilewise::runtime {
namespace {

/// Names of tensors, those of a block behind its prefix and number.
struct Names {
  const char* embedding;
  const char* block;
  const char* attention_norm;
  const char *q, *k, *v, *out;
  const char* mlp_norm;
  const char *gate, *up, *down;
  const char* last_norm;
  const char* logits;
};

constexpr Names kGguf{"token_embd", "blk",      "attn_norm", "attn_q",   "attn_k",      "attn_v", "attn_output",
                      "ffn_norm",   "ffn_gate", "ffn_up",    "ffn_down", "output_norm", "output"};
constexpr Names kJson{"model.embed_tokens",
                      "model.layers",
                      "input_layernorm",
                      "self_attn.q_proj",
                      "self_attn.k_proj",
                      "self_attn.v_proj",
                      "self_attn.o_proj",
                      "post_attention_layernorm",
                      "mlp.gate_proj",
                      "mlp.up_proj",
                      "mlp.down_proj",
                      "model.norm",
                      "lm_head"};

nn::TransformerShape shape_of(const ModelSource& source, const std::string& embedding) {
  nn::TransformerShape s = usual_shape(source, embedding);
  s.h_q = source.integer({"attention.head_count", "num_attention_heads"}, 1, kMostWidth);
  s.h_kv = source.integer_or({"attention.head_count_kv", "num_key_value_heads"}, 1, s.h_q, s.h_q);
  s.d_qk = query_head_size(source);
  s.d_v = source.integer_or({"attention.value_length", "head_dim"}, 1, kMostWidth, s.d_qk);
  if (s.h_q % s.h_kv != 0) {
    fail(ErrorCode::parse, "{}: {} query heads on {} key heads; expected a multiple", source.path(), s.h_q, s.h_kv);
  }
  s.is_rotary = true;
  return s;
}

/// Causal, in a window where the settings name one.
Variant variant_of(const ModelSource& source, const nn::TransformerShape& shape) {
  const Key window{"attention.sliding_window", "sliding_window"};
  if (!source.has(window)) return zoo::causal();
  if (!source.is_gguf() && source.architecture() == "qwen2") {
    // Qwen2 has windows in its upper layers, from max_window_layers on, where it has them at all.
    if (!source.boolean_or({nullptr, "use_sliding_window"}, false)) return zoo::causal();
    const std::int64_t first = source.integer_or({nullptr, "max_window_layers"}, 0, kMostLayers, 28);
    if (first >= shape.layers) return zoo::causal();
    if (first > 0) source.refuse("sliding windows in some layers only are not supported; in all or in none they are");
  }
  const std::int64_t size = source.integer(window, 0, kMostPositions);
  return size == 0 || size >= shape.context ? zoo::causal() : zoo::window(static_cast<std::int32_t>(size));
}

std::unique_ptr<Parts> build(const ModelSource& source, Weights& weights) {
  const Names& names = source.is_gguf() ? kGguf : kJson;
  if (source.integer_or({"expert_count", "num_local_experts"}, 0, kMostWidth, 0) > 0)
    source.refuse("mixtures of experts are not supported; one MLP a layer is");
  const std::string embedding = fmt::format("{}.weight", names.embedding);
  auto parts = std::make_unique<Parts>();
  parts->shape = shape_of(source, embedding);
  const nn::TransformerShape& s = parts->shape;
  parts->variant = variant_of(source, s);
  parts->embedding = weights.matrix(embedding, s.vocabulary, s.width);

  // Files in GGUF have the rows of Llama's q and k in another order, for pairs of neighbours.
  const bool neighbours = source.is_gguf() && source.architecture() == "llama";
  parts->rotary = rotary_of(source, weights, neighbours ? nn::Pairing::neighbours : nn::Pairing::halves,
                            source.integer_or({"rope.dimension_count", nullptr}, 2, s.d_qk, s.d_qk), s.context);

  const double epsilon = source.real({"attention.layer_norm_rms_epsilon", "rms_norm_eps"});
  const auto norm = [&](const std::string& name) { return weights.norm(name, nn::NormKind::rms, epsilon, s.width); };
  const nn::Activation activation = activation_of(source, {nullptr, "hidden_act"}, "silu");
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const auto name = [&](const char* part) { return fmt::format("{}.{}.{}", names.block, i, part); };
    nn::BlockPart block;
    block.attention_norm = norm(name(names.attention_norm));
    block.attention.q = weights.projection(name(names.q), s.h_q * s.d_qk, s.width);
    block.attention.k = weights.projection(name(names.k), s.h_kv * s.d_qk, s.width);
    block.attention.v = weights.projection(name(names.v), s.h_kv * s.d_v, s.width);
    block.attention.out = weights.projection(name(names.out), s.width, s.h_q * s.d_v);
    block.mlp_norm = norm(name(names.mlp_norm));
    block.mlp.activation = activation;
    block.mlp.gate = weights.projection(name(names.gate), s.mlp, s.width);
    block.mlp.up = weights.projection(name(names.up), s.mlp, s.width);
    block.mlp.down = weights.projection(name(names.down), s.width, s.mlp);
    parts->blocks.push_back(std::move(block));
  }
  parts->last_norm = norm(names.last_norm);
  const std::string logits = fmt::format("{}.weight", names.logits);
  parts->logits = weights.has(logits) ? weights.matrix(logits, s.vocabulary, s.width) : parts->embedding;
  return parts;
}

}  // namespace

Family llama_family() {
  static constexpr std::string_view kArchitectures[] = {"llama", "qwen2"};
  static constexpr std::string_view kTypes[] = {"llama", "qwen2", "mistral"};
  static constexpr std::string_view kIgnored[] = {"rotary_emb.inv_freq"};
  return {kArchitectures, kTypes, build, kIgnored};
}

}  // namespace tilewise::runtime
