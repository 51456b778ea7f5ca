// Writing models with 8-bit weights.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tilewise {

/// What became of a tensor.
struct QuantizedTensor {
  std::string name{};
  std::string from{}, to{};  ///< Storage: "float32", "q8_0". Equal where it was copied; `from` is
                             ///< "settings" for what GGUF keeps as a tensor, and `to` "left out" for what it has not.
  std::int64_t elements = 0;
  std::int64_t bytes_from = 0, bytes_to = 0;
  double largest_error = 0;   ///< Of an element, absolute.
  double relative_error = 0;  ///< sqrt(sum (x - x')^2 / sum x^2); 0 where it was copied.
};

struct QuantizeReport {
  std::string from{}, to{};                   ///< Paths.
  std::int64_t bytes_from = 0, bytes_to = 0;  ///< Of the files.
  std::vector<QuantizedTensor> tensors{};
};

/// Writes a GGUF file whose matrices are stored as q8_0 (32 int8 with a float16 scale: 8.5 bits an element), rounded
/// from a GGUF or safetensors file with float weights. Vectors (norms, biases) and matrices whose rows are no multiple
/// of 32 keep what they have, as do matrices of fewer bits, which would only grow. Settings and tokenizer are taken
/// over; from safetensors, the settings in config.json beside it and the tokenizer in tokenizer.json, under the names
/// of GGUF.
///
/// `told`, if given, is called with each tensor as it is done.
///
/// Throws as inspect_model(); Error(invalid_argument) where `from` and `to` are one file and where a weight is not
/// finite; Error(unsupported) on architectures without names in GGUF here; Error(io) where `to` cannot be written, and
/// then what was there stands.
QuantizeReport quantize_model(const std::string& from, const std::string& to,
                              const std::function<void(const QuantizedTensor&)>& told = {});

}  // namespace tilewise
