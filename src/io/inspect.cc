#include <algorithm>
#include <cstring>

#include "core/fail.h"
#include "io/cursor.h"
#include "io/gguf.h"
#include "io/model_format.h"
#include "io/safetensors.h"
#include "io/tokenizer/utf8.h"
#include "tilewise/model.h"

namespace tilewise {
namespace {

using io::GgufArray;
using io::GgufType;
using io::GgufValue;

constexpr std::uint64_t kMostElementsShown = 6;

/// Fit to be shown: a file's text must not steer a terminal.
std::string shown(std::string_view text) {
  std::string fit = io::valid_utf8(text, io::Replacement::maximal_part);
  std::string out;
  for (const io::Character& character : io::characters(fit)) {
    const bool steers = character.code < 0x20 || (character.code >= 0x7F && character.code < 0xA0);
    io::append_utf8(steers ? 0x2400 + (character.code < 0x20 ? character.code : 0x21u) : character.code, out);
  }
  return out;
}

template <class T>
std::string number_text(const std::byte* element) {
  T value;
  std::memcpy(&value, element, sizeof(T));
  return fmt::format("{}", value);
}

std::string element_text(const GgufArray& array, std::uint64_t index) {
  if (array.type == GgufType::string) return fmt::format("\"{}\"", shown(array.strings[index]));
  const std::byte* element = array.numbers.data() + index * static_cast<std::uint64_t>(io::size_of(array.type));
  switch (array.type) {
    case GgufType::uint8: return number_text<std::uint8_t>(element);
    case GgufType::int8: return number_text<std::int8_t>(element);
    case GgufType::uint16: return number_text<std::uint16_t>(element);
    case GgufType::int16: return number_text<std::int16_t>(element);
    case GgufType::uint32: return number_text<std::uint32_t>(element);
    case GgufType::int32: return number_text<std::int32_t>(element);
    case GgufType::uint64: return number_text<std::uint64_t>(element);
    case GgufType::int64: return number_text<std::int64_t>(element);
    case GgufType::float32: return number_text<float>(element);
    case GgufType::float64: return number_text<double>(element);
    default: return *element == std::byte{0} ? "false" : "true";
  }
}

std::string array_text(const GgufArray& array) {
  std::string text = fmt::format("{} elements", array.count);
  for (std::uint64_t i = 0; i < std::min(array.count, kMostElementsShown); ++i) {
    text += (i == 0 ? ": " : ", ") + element_text(array, i);
  }
  return array.count > kMostElementsShown ? text + ", ..." : text;
}

struct Text {
  std::string operator()(std::uint64_t value) const { return std::to_string(value); }
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const {
    // A float32 in as many digits as tell it from its neighbours, where the value is one.
    const auto narrow = static_cast<float>(value);
    return static_cast<double>(narrow) == value ? fmt::format("{}", narrow) : fmt::format("{}", value);
  }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::string_view value) const { return shown(value); }
  std::string operator()(const GgufArray& value) const { return array_text(value); }
};

ModelSetting setting_of(std::string_view name, const GgufValue& value) {
  const auto* array = std::get_if<GgufArray>(&value.value);
  return {shown(name), array == nullptr ? to_string(value.type) : fmt::format("array of {}", to_string(array->type)),
          std::visit(Text{}, value.value)};
}

void add_tensors(const std::vector<io::FileTensor>& tensors, ModelFile& model) {
  for (const io::FileTensor& tensor : tensors) {
    model.tensors.push_back({shown(tensor.name), io::info(tensor.storage).name, tensor.shape, tensor.offset,
                             static_cast<std::int64_t>(tensor.bytes.size())});
    model.parameters += io::product(tensor.shape).value_or(0);
  }
}

ModelFile inspect_gguf(const std::string& path) {
  const io::GgufFile file(path);
  ModelFile model{.path = path, .format = fmt::format("GGUF version {}", file.version())};
  model.bytes = static_cast<std::int64_t>(file.bytes());
  for (const auto& [name, value] : file.metadata()) {
    model.settings.push_back(setting_of(name, value));
    if (name == "general.architecture") model.architecture = model.settings.back().value;
  }
  add_tensors(file.tensors(), model);
  return model;
}

ModelFile inspect_safetensors(const std::string& path) {
  const io::SafetensorsFile file(path);
  ModelFile model{.path = path, .format = "safetensors"};
  model.bytes = static_cast<std::int64_t>(file.bytes());
  for (const auto& [name, value] : file.metadata()) model.settings.push_back({shown(name), "string", shown(value)});
  add_tensors(file.tensors(), model);
  return model;
}

}  // namespace

ModelFile inspect_model(const std::string& path) {
  return io::is_gguf(path) ? inspect_gguf(path) : inspect_safetensors(path);
}

}  // namespace tilewise
