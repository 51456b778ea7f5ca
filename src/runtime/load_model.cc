#include "runtime/load_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>

#include "runtime/families/family.h"

namespace tilewise::runtime {
namespace {

std::array<Family, 3> families() { return {llama_family(), gpt2_family(), bert_family()}; }

Family family_of(const ModelSource& source) {
  std::set<std::string_view> known;
  for (const Family& family : families()) {
    const auto names = source.is_gguf() ? family.gguf_architectures : family.model_types;
    if (std::ranges::count(names, source.architecture()) > 0) return family;
    known.insert(names.begin(), names.end());
  }
  source.refuse(fmt::format("architecture '{}' is not supported; of {} files {} are", source.architecture(),
                            source.is_gguf() ? "GGUF" : "safetensors", fmt::join(known, ", ")));
}

}  // namespace

LoadedModel load_model(const std::string& path, nn::Precision precision, Executor& executor) {
  const ModelSource source(path);
  const Family family = family_of(source);
  Weights weights(source, precision, executor);
  std::unique_ptr<Parts> parts = family.build(source, weights);
  weights.expect_all_used(family.ignored);
  parts->owners = std::move(weights).owners();
  return {source.architecture(), source.folder(), source.gguf(),
          std::make_shared<const nn::Transformer>(std::move(parts))};
}

}  // namespace tilewise::runtime
