// A family of models: how its files' settings and names map to blocks. docs/add_a_model_family.md
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "nn/parts.h"
#include "runtime/model_source.h"
#include "runtime/weights.h"

namespace tilewise::runtime {

using Parts = nn::Transformer::Parts;

struct Family {
  /// As GGUF's general.architecture, and as config.json's model_type, name its models. Empty where a format has none.
  std::span<const std::string_view> gguf_architectures;
  std::span<const std::string_view> model_types;

  /// Shape, parts and weights.
  std::unique_ptr<Parts> (*build)(const ModelSource& source, Weights& weights);

  /// Ends of names of tensors that its files may hold and that nothing here needs.
  std::span<const std::string_view> ignored;
};

Family llama_family();  // Llama, SmolLM2, Qwen2 and 2.5, Mistral
Family gpt2_family();
Family bert_family();  // BERT, MiniLM

/// No model has more of anything.
inline constexpr std::int64_t kMostLayers = 1 << 12, kMostWidth = 1 << 20, kMostPositions = std::int64_t{1} << 31;

/// Rows of the tensor of tokens; 0 where the file has none of that name.
std::int64_t vocabulary_of(const ModelSource& source, const std::string& embedding);

/// Layers, width, elements of an MLP, context and vocabulary, where their settings have the usual names.
nn::TransformerShape usual_shape(const ModelSource& source, const std::string& embedding);

/// Elements of a head where heads share the width. Throws Error(parse) where they cannot.
std::int64_t head_size(const ModelSource& source, std::int64_t width, std::int64_t heads);

/// Elements of a query's head, as the settings of decoders with rotary embedding give them.
std::int64_t query_head_size(const ModelSource& source);

/// The activation of that name in config.json; throws Error(unsupported) listing those that are known.
nn::Activation activation_of(const ModelSource& source, const Key& key, std::string_view otherwise);

/// The object of config.json with what concerns rotary embedding: newer files have the base in it, too.
std::optional<io::JsonValue> rotary_object(const io::JsonValue& config);

/// What the settings say of rotary embedding of a head's first d elements. Throws Error(unsupported) on other kinds of
/// scaling than those of nn::RotaryScaling.
struct BaseAndScaling {
  double base;
  nn::RotaryScaling scaling;
};
BaseAndScaling base_and_scaling_of(const ModelSource& source, Weights& weights, std::int64_t d, std::int64_t context);

/// The rotary embedding that they come to.
nn::Rotary rotary_of(const ModelSource& source, Weights& weights, nn::Pairing pairing, std::int64_t d,
                     std::int64_t context);

}  // namespace tilewise::runtime
