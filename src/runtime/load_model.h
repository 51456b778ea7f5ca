// A model file as a transformer: which family it is of, and its weights, mapped.
#pragma once

#include <memory>
#include <string>

#include "io/gguf.h"
#include "nn/linear.h"
#include "nn/transformer.h"

namespace tilewise::runtime {

struct LoadedModel {
  std::string architecture{};                  ///< "llama", "qwen2", "gpt2", "bert": as the file says it.
  std::string folder{};                        ///< Of the weights: where a safetensors model has its tokenizer.json.
  std::shared_ptr<const io::GgufFile> gguf{};  ///< Null for safetensors.
  std::shared_ptr<const nn::Transformer> transformer{};
};

/// Loads a GGUF file, a safetensors file with its config.json beside it, or a folder with model.safetensors and
/// config.json. With Precision::precise quantised weights are multiplied in float32.
///
/// Throws Error(io) where a file cannot be read, Error(parse) naming file and tensor or setting where one is missing or
/// of another shape than the settings say, Error(unsupported) on an architecture, setting, tensor or type of tensor
/// that no family takes, naming those that are supported.
LoadedModel load_model(const std::string& path, nn::Precision precision = nn::Precision::rounded,
                       Executor& executor = default_executor());

}  // namespace tilewise::runtime
