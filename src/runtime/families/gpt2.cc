// GPT-2: layer norms before attention and a plain MLP, learned positions, biases everywhere.
// Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
#include <fmt/format.h>

#include "runtime/families/family.h"
#include "tilewise/zoo.h"

namespace tilewise::runtime {
namespace {

struct Names {
  const char *embedding, *positions;
  const char* block;
  const char* attention_norm;
  const char *qkv, *out;
  const char* mlp_norm;
  const char *up, *down;
  const char* last_norm;
  const char* logits;
};

constexpr Names kGguf{"token_embd", "position_embd", "blk",      "attn_norm",   "attn_qkv", "attn_output",
                      "ffn_norm",   "ffn_up",        "ffn_down", "output_norm", "output"};
constexpr Names kJson{"wte",  "wpe",      "h",          "ln_1", "attn.c_attn", "attn.c_proj",
                      "ln_2", "mlp.c_fc", "mlp.c_proj", "ln_f", "lm_head"};

/// Rows [first, first + outputs) of a matrix of all_outputs rows, with their biases. Safetensors files hold transposes.
nn::Projection projection(const ModelSource& source, Weights& weights, const std::string& name,
                          std::int64_t all_outputs, std::int64_t inputs, std::int64_t first, std::int64_t outputs) {
  const std::string matrix = name + ".weight";
  const std::vector<float> bias = weights.vector(name + ".bias", all_outputs);
  return {source.is_gguf() ? weights.rows_of(matrix, all_outputs, inputs, first, outputs)
                           : weights.transposed_rows_of(matrix, all_outputs, inputs, first, outputs),
          {bias.begin() + first, bias.begin() + first + outputs}};
}

nn::TransformerShape shape_of(const ModelSource& source, const std::string& embedding) {
  nn::TransformerShape s;
  s.layers = source.integer({"block_count", "n_layer"}, 1, kMostLayers);
  s.width = source.integer({"embedding_length", "n_embd"}, 1, kMostWidth);
  s.mlp = source.integer_or({"feed_forward_length", "n_inner"}, 1, kMostWidth, 4 * s.width);
  s.context = source.integer({"context_length", "n_positions"}, 1, kMostPositions);
  s.h_q = s.h_kv = source.integer({"attention.head_count", "n_head"}, 1, kMostWidth);
  s.d_qk = s.d_v = head_size(source, s.width, s.h_q);
  s.vocabulary = vocabulary_of(source, embedding);
  return s;
}

std::unique_ptr<Parts> build(const ModelSource& source, Weights& weights) {
  const Names& names = source.is_gguf() ? kGguf : kJson;
  if (source.boolean_or({nullptr, "scale_attn_by_inverse_layer_idx"}, false) ||
      !source.boolean_or({nullptr, "scale_attn_weights"}, true)) {
    source.refuse("scores that are not scaled by 1 / sqrt(d) in every layer are not supported");
  }
  // Some files have everything behind "transformer.".
  const std::string prefix = !source.is_gguf() && weights.has("transformer.wte.weight") ? "transformer." : "";
  const std::string embedding = prefix + names.embedding + ".weight";
  auto parts = std::make_unique<Parts>();
  parts->shape = shape_of(source, embedding);
  const nn::TransformerShape& s = parts->shape;
  parts->variant = zoo::causal();
  parts->embedding = weights.matrix(embedding, s.vocabulary, s.width);
  parts->positions = weights.matrix(prefix + names.positions + ".weight", s.context, s.width);

  const double epsilon = source.real_or({"attention.layer_norm_epsilon", "layer_norm_epsilon"}, 1e-5);
  const auto norm = [&](const std::string& name) { return weights.norm(name, nn::NormKind::layer, epsilon, s.width); };
  const nn::Activation activation = activation_of(source, {nullptr, "activation_function"}, "gelu_new");
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const auto name = [&](const char* part) { return fmt::format("{}{}.{}.{}", prefix, names.block, i, part); };
    const auto third = [&](std::int64_t n) {
      return projection(source, weights, name(names.qkv), 3 * s.width, s.width, n * s.width, s.width);
    };
    const auto whole = [&](const char* part, std::int64_t outputs, std::int64_t inputs) {
      return projection(source, weights, name(part), outputs, inputs, 0, outputs);
    };
    parts->blocks.push_back({norm(name(names.attention_norm)),
                             {third(0), third(1), third(2), whole(names.out, s.width, s.width)},
                             norm(name(names.mlp_norm)),
                             {activation, {}, whole(names.up, s.mlp, s.width), whole(names.down, s.width, s.mlp)}});
  }
  parts->last_norm = norm(prefix + names.last_norm);
  const std::string logits = fmt::format("{}.weight", names.logits);
  parts->logits = weights.has(logits) ? weights.matrix(logits, s.vocabulary, s.width) : parts->embedding;
  return parts;
}

}  // namespace

Family gpt2_family() {
  static constexpr std::string_view kNames[] = {"gpt2"};
  static constexpr std::string_view kIgnored[] = {"attn.bias", "attn.masked_bias"};  // the causal mask as a table
  return {kNames, kNames, build, kIgnored};
}

}  // namespace tilewise::runtime
