// BERT, and MiniLM, which is a smaller one: layer norms after attention and a plain MLP, learned positions, every token
// seen by every other.
// Devlin et al., "BERT" (2018); Wang et al., "MiniLM" (2020).
#include <fmt/format.h>

#include "runtime/families/family.h"

namespace tilewise::runtime {
namespace {

struct Names {
  const char *embedding, *positions, *types, *embedding_norm;
  const char* block;
  const char *q, *k, *v, *out, *attention_norm;
  const char *up, *down, *mlp_norm;
};

constexpr Names kGguf{"token_embd", "position_embd", "token_types",      "token_embd_norm", "blk",
                      "attn_q",     "attn_k",        "attn_v",           "attn_output",     "attn_output_norm",
                      "ffn_up",     "ffn_down",      "layer_output_norm"};
constexpr Names kJson{"embeddings.word_embeddings",
                      "embeddings.position_embeddings",
                      "embeddings.token_type_embeddings",
                      "embeddings.LayerNorm",
                      "encoder.layer",
                      "attention.self.query",
                      "attention.self.key",
                      "attention.self.value",
                      "attention.output.dense",
                      "attention.output.LayerNorm",
                      "intermediate.dense",
                      "output.dense",
                      "output.LayerNorm"};

nn::TransformerShape shape_of(const ModelSource& source, const std::string& embedding) {
  nn::TransformerShape s = usual_shape(source, embedding);
  s.h_q = s.h_kv = source.integer({"attention.head_count", "num_attention_heads"}, 1, kMostWidth);
  s.d_qk = s.d_v = head_size(source, s.width, s.h_q);
  s.is_encoder = true;
  return s;
}

std::unique_ptr<Parts> build(const ModelSource& source, Weights& weights) {
  const Names& names = source.is_gguf() ? kGguf : kJson;
  if (const std::string kind = source.string_or({nullptr, "position_embedding_type"}, "absolute"); kind != "absolute")
    source.refuse("position_embedding_type " + kind + " is not supported; absolute is");
  if (source.boolean_or({nullptr, "is_decoder"}, false)) source.refuse("BERT as a decoder is not supported");
  // Some files have everything behind "bert.".
  const std::string prefix = !source.is_gguf() && weights.has("bert.embeddings.word_embeddings.weight") ? "bert." : "";
  const std::string embedding = prefix + names.embedding + ".weight";
  auto parts = std::make_unique<Parts>();
  parts->shape = shape_of(source, embedding);
  const nn::TransformerShape& s = parts->shape;
  parts->placement = nn::NormPlacement::after;
  parts->embedding = weights.matrix(embedding, s.vocabulary, s.width);
  parts->positions = weights.matrix(prefix + names.positions + ".weight", s.context, s.width);

  // Texts stand alone, and so have the type of first ones.
  const std::string types = prefix + names.types + ".weight";
  const io::FileTensor* of_types = source.find_tensor(types);
  parts->added = weights.row(types, of_types != nullptr ? of_types->rows() : 2, s.width, 0);

  const double epsilon = source.real_or({"attention.layer_norm_epsilon", "layer_norm_eps"}, 1e-12);
  const auto norm = [&](const std::string& name) { return weights.norm(name, nn::NormKind::layer, epsilon, s.width); };
  parts->embedding_norm = norm(prefix + names.embedding_norm);
  const nn::Activation activation = activation_of(source, {nullptr, "hidden_act"}, "gelu");
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const auto name = [&](const char* part) { return fmt::format("{}{}.{}.{}", prefix, names.block, i, part); };
    const auto square = [&](const char* part) { return weights.projection(name(part), s.width, s.width); };
    parts->blocks.push_back({norm(name(names.attention_norm)),
                             {square(names.q), square(names.k), square(names.v), square(names.out)},
                             norm(name(names.mlp_norm)),
                             {activation,
                              {},
                              weights.projection(name(names.up), s.mlp, s.width),
                              weights.projection(name(names.down), s.width, s.mlp)}});
  }
  return parts;
}

}  // namespace

Family bert_family() {
  static constexpr std::string_view kNames[] = {"bert"};
  // Not of the hidden states: the pooler, and heads of training.
  static constexpr std::string_view kIgnored[] = {"position_ids", "pooler.dense.weight", "pooler.dense.bias"};
  return {kNames, kNames, build, kIgnored};
}

}  // namespace tilewise::runtime
