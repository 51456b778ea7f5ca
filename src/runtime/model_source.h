// A model's files, GGUF or safetensors with config.json, as tensors by name and settings by key.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "io/gguf.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace tilewise::runtime {

/// A setting's name in each format; null where a format has none. GGUF's are behind the architecture's name.
struct Key {
  const char* gguf;
  const char* json;
};

class ModelSource {
 public:
  /// Opens what load_model() takes. Throws as that.
  explicit ModelSource(const std::string& path);

  bool is_gguf() const { return gguf_ != nullptr; }
  const std::shared_ptr<const io::GgufFile>& gguf() const { return gguf_; }
  const std::string& path() const { return is_gguf() ? gguf_->path() : safetensors_->path(); }
  std::string folder() const;

  /// "llama": general.architecture of GGUF, model_type of config.json.
  const std::string& architecture() const { return architecture_; }

  /// What keeps the tensors' memory.
  std::shared_ptr<const void> owner() const;

  const std::vector<io::FileTensor>& tensors() const { return is_gguf() ? gguf_->tensors() : safetensors_->tensors(); }

  /// Null where there is none of that name.
  const io::FileTensor* find_tensor(std::string_view name) const;

  /// Whether the setting is there, and not null.
  bool has(const Key& key) const;

  /// Settings. Each throws Error(parse) naming file and key where it is missing or of another type, an integer also
  /// where it lies outside of [least, most].
  std::int64_t integer(const Key& key, std::int64_t least, std::int64_t most) const;
  double real(const Key& key) const;
  std::string string(const Key& key) const;
  bool boolean(const Key& key) const;

  /// As above, or `otherwise` where the setting is missing.
  std::int64_t integer_or(const Key& key, std::int64_t least, std::int64_t most, std::int64_t otherwise) const;
  double real_or(const Key& key, double otherwise) const;
  std::string string_or(const Key& key, std::string_view otherwise) const;
  bool boolean_or(const Key& key, bool otherwise) const;

  /// config.json, of safetensors.
  const io::JsonValue& config() const { return *config_; }

  /// Throws Error(unsupported), naming the file.
  [[noreturn]] void refuse(const std::string& message) const;

 private:
  std::string full(const Key& key) const { return architecture_ + "." + key.gguf; }

  std::shared_ptr<const io::GgufFile> gguf_;
  std::shared_ptr<const io::SafetensorsFile> safetensors_;
  std::optional<io::JsonValue> config_;
  std::string architecture_;
};

}  // namespace tilewise::runtime
