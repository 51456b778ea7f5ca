// tilewise inspect: a model file as a table.
#include <fmt/format.h>

#include <map>
#include <memory>

#include "command.h"
#include "table.h"
#include "tilewise/model.h"

namespace tilewise::cli {
namespace {

// A chat template has thousands of characters; --json gives all of them.
constexpr std::size_t kMostShown = 100;

std::string shortened(const std::string& value) {
  if (value.size() <= kMostShown) return value;
  std::size_t end = kMostShown;
  // Not within a character of UTF-8.
  while (end > 0 && (static_cast<unsigned char>(value[end]) & 0xC0) == 0x80) --end;
  return value.substr(0, end) + "...";
}

std::string answer_text(const std::string& path) {
  const ModelFile model = inspect_model(path);
  std::string text =
      fmt::format("{}: {}{}, {}, {} tensors, {} parameters\n\n", model.path, model.format,
                  model.architecture.empty() ? "" : ", " + model.architecture,
                  bytes_text(static_cast<double>(model.bytes)), model.tensors.size(), grouped(model.parameters));
  std::size_t widest = 0;
  for (const ModelSetting& setting : model.settings) widest = std::max(widest, setting.name.size());
  for (const ModelSetting& setting : model.settings) {
    text += fmt::format("{:<{}}  {}\n", setting.name, widest, shortened(setting.value));
  }
  if (!model.settings.empty()) text += '\n';
  TextTable tensors({"tensor", "stored as", "shape", "bytes"});
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> totals;  // by storage: tensors, bytes
  for (const ModelTensor& tensor : model.tensors) {
    tensors.add(
        {tensor.name, tensor.storage, fmt::format("[{}]", fmt::join(tensor.shape, ", ")), grouped(tensor.bytes)});
    ++totals[tensor.storage].first;
    totals[tensor.storage].second += tensor.bytes;
  }
  text += tensors.text() + "\n";
  TextTable sums({"stored as", "tensors", "bytes"});
  for (const auto& [storage, total] : totals) sums.add({storage, grouped(total.first), grouped(total.second)});
  return text + sums.text();
}

Json answer_json(const std::string& path) {
  const ModelFile model = inspect_model(path);
  Json settings = Json::array(), tensors = Json::array();
  for (const ModelSetting& setting : model.settings) {
    settings.push_back({{"name", setting.name}, {"type", setting.type}, {"value", setting.value}});
  }
  for (const ModelTensor& tensor : model.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"storage", tensor.storage},
                       {"shape", tensor.shape},
                       {"offset", tensor.offset},
                       {"bytes", tensor.bytes}});
  }
  return {{"path", model.path},   {"format", model.format},         {"architecture", model.architecture},
          {"bytes", model.bytes}, {"parameters", model.parameters}, {"settings", settings},
          {"tensors", tensors}};
}

}  // namespace

void add_inspect(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("inspect", "A model file as a table: settings, tensors, bytes");
  const auto path = std::make_shared<std::string>();
  command.add_option("file", *path, "A GGUF or safetensors file")->required();
  command.footer(
      "Examples:\n"
      "  tilewise inspect model.gguf\n"
      "  tilewise inspect model.safetensors --json");
  add_answers(
      command, [=] { return answer_text(*path); }, [=] { return answer_json(*path); });
}

}  // namespace tilewise::cli
