// Model files: what is in them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tilewise {

/// A tensor of a model file.
struct ModelTensor {
  std::string name{};
  std::string storage{};              ///< "float32", "bfloat16", "q4_1": how its elements are stored.
  std::vector<std::int64_t> shape{};  // [rank], the contiguous axis last
  std::uint64_t offset = 0;           ///< From the start of the file.
  std::int64_t bytes = 0;
};

/// A setting of a model file, as text. A long array is its length and its first elements.
struct ModelSetting {
  std::string name{};
  std::string type{};  ///< "uint32", "string", "array of float32".
  std::string value{};
};

/// What a model file says of itself.
struct ModelFile {
  std::string path{};
  std::string format{};        ///< "GGUF version 3" or "safetensors".
  std::string architecture{};  ///< Of GGUF, such as "llama"; empty where the file does not say.
  std::int64_t bytes = 0;
  std::int64_t parameters = 0;  ///< Elements of all tensors.
  std::vector<ModelSetting> settings{};
  std::vector<ModelTensor> tensors{};
};

/// Reads a GGUF or safetensors file's header; which one it is, the file itself tells. Text from the file comes as valid
/// UTF-8 without control characters, however hostile the file.
///
/// Throws Error(io) where the file cannot be read, Error(parse) where it is neither format or malformed, naming path,
/// offset and tensor, and Error(unsupported) on versions and storage types that are not supported.
ModelFile inspect_model(const std::string& path);

}  // namespace tilewise
