#include "runtime/model_source.h"

#include <filesystem>

#include "core/fail.h"
#include "io/mapped_file.h"
#include "io/model_format.h"

namespace tilewise::runtime {
ModelSource::ModelSource(const std::string& path) {
  std::string weights = path;
  if (std::filesystem::is_directory(path)) weights = (std::filesystem::path(path) / "model.safetensors").string();
  if (io::is_gguf(weights)) {
    gguf_ = std::make_shared<const io::GgufFile>(weights);
    architecture_ = gguf_->string("general.architecture");
    return;
  }
  safetensors_ = std::make_shared<const io::SafetensorsFile>(weights);
  const std::string config = (std::filesystem::path(weights).parent_path() / "config.json").string();
  if (!std::filesystem::exists(config)) {
    fail(ErrorCode::io,
         "{} has no config.json beside it; a safetensors file does not say by itself what model it holds", weights);
  }
  config_ = io::JsonValue::parse(io::MappedFile(config).text(), config);
  architecture_ = config_->member("model_type").string();
}

std::string ModelSource::folder() const { return std::filesystem::path(path()).parent_path().string(); }

std::shared_ptr<const void> ModelSource::owner() const {
  if (is_gguf()) return gguf_;
  return safetensors_;
}

const io::FileTensor* ModelSource::find_tensor(std::string_view name) const {
  return is_gguf() ? gguf_->find_tensor(name) : safetensors_->find_tensor(name);
}

bool ModelSource::has(const Key& key) const {
  if (is_gguf()) return key.gguf != nullptr && gguf_->has(full(key));
  return key.json != nullptr && config_->find(key.json).has_value();
}

std::int64_t ModelSource::integer(const Key& key, std::int64_t least, std::int64_t most) const {
  return is_gguf() ? gguf_->integer(full(key), least, most) : config_->member(key.json).integer(least, most);
}
double ModelSource::real(const Key& key) const {
  return is_gguf() ? gguf_->real(full(key)) : config_->member(key.json).real();
}
std::string ModelSource::string(const Key& key) const {
  return is_gguf() ? std::string(gguf_->string(full(key))) : config_->member(key.json).string();
}
bool ModelSource::boolean(const Key& key) const {
  return is_gguf() ? gguf_->boolean(full(key)) : config_->member(key.json).boolean();
}

std::int64_t ModelSource::integer_or(const Key& key, std::int64_t least, std::int64_t most,
                                     std::int64_t otherwise) const {
  return has(key) ? integer(key, least, most) : otherwise;
}
double ModelSource::real_or(const Key& key, double otherwise) const { return has(key) ? real(key) : otherwise; }
std::string ModelSource::string_or(const Key& key, std::string_view otherwise) const {
  return has(key) ? string(key) : std::string(otherwise);
}
bool ModelSource::boolean_or(const Key& key, bool otherwise) const { return has(key) ? boolean(key) : otherwise; }

void ModelSource::refuse(const std::string& message) const { fail(ErrorCode::unsupported, "{}: {}", path(), message); }

}  // namespace tilewise::runtime
