// A model file as a transformer: which family it is of, and its weights, mapped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "nn/transformer.h"

namespace tilewise::runtime {

enum class Precision : std::uint8_t {
  stored,   ///< Weights as the file stores them; quantised ones meet activations of 8 bits.
  precise,  ///< Weights are dequantised once, and multiplied in float32.
};

struct LoadedModel {
  std::string architecture;  ///< "llama", "qwen2", "gpt2", "bert": as the file says it.
  std::shared_ptr<const nn::Transformer> transformer;
};

/// Loads a GGUF file, a safetensors file with its config.json beside it, or a folder that holds these two. Its
/// tokenizer is io::load_tokenizer's.
///
/// Throws Error(io) where a file cannot be read, Error(parse) naming file and tensor or setting where one is missing or
/// of another shape than the settings say, Error(unsupported) on an architecture, setting or type of tensor that no
/// family takes, naming those that are supported.
LoadedModel load_model(const std::string& path, Precision precision = Precision::stored);

}  // namespace tilewise::runtime
