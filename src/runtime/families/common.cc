// What families share: sizes of heads, names of activations, usual settings. rotary_settings.cc has those of rotary
// embedding.
#include <utility>

#include "core/fail.h"
#include "runtime/families/family.h"

namespace tilewise::runtime {

std::int64_t vocabulary_of(const ModelSource& source, const std::string& embedding) {
  const io::FileTensor* table = source.find_tensor(embedding);
  return table != nullptr ? table->rows() : 0;
}

nn::TransformerShape usual_shape(const ModelSource& source, const std::string& embedding) {
  nn::TransformerShape s;
  s.layers = source.integer({"block_count", "num_hidden_layers"}, 1, kMostLayers);
  s.width = source.integer({"embedding_length", "hidden_size"}, 1, kMostWidth);
  s.mlp = source.integer({"feed_forward_length", "intermediate_size"}, 1, kMostWidth);
  s.context = source.integer({"context_length", "max_position_embeddings"}, 1, kMostPositions);
  s.vocabulary = vocabulary_of(source, embedding);
  return s;
}

std::int64_t head_size(const ModelSource& source, std::int64_t width, std::int64_t heads) {
  if (width % heads == 0) return width / heads;
  fail(ErrorCode::parse, "{}: width {} and {} heads; expected the heads to divide the width", source.path(), width,
       heads);
}

std::int64_t query_head_size(const ModelSource& source) {
  const Key size{"attention.key_length", "head_dim"};
  if (source.has(size)) return source.integer(size, 1, kMostWidth);
  return head_size(source, source.integer({"embedding_length", "hidden_size"}, 1, kMostWidth),
                   source.integer({"attention.head_count", "num_attention_heads"}, 1, kMostWidth));
}

nn::Activation activation_of(const ModelSource& source, const Key& key, std::string_view otherwise) {
  constexpr std::pair<std::string_view, nn::Activation> kNames[] = {{"silu", nn::Activation::silu},
                                                                    {"swish", nn::Activation::silu},
                                                                    {"gelu", nn::Activation::gelu},
                                                                    {"gelu_new", nn::Activation::gelu_tanh},
                                                                    {"gelu_pytorch_tanh", nn::Activation::gelu_tanh},
                                                                    {"relu", nn::Activation::relu}};
  const std::string name = source.string_or(key, otherwise);
  for (const auto& [known, activation] : kNames) {
    if (known == name) return activation;
  }
  source.refuse("activation " + name +
                " is not supported; silu, swish, gelu, gelu_new, gelu_pytorch_tanh and relu are");
}

}  // namespace tilewise::runtime
