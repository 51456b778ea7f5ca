// Models that quantize_model() wrote compute what the files they came from do: names, settings and the order of rows
// are right, or nothing would be.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <regex>

#include "runtime/load_model.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tilewise/quantize.h"

namespace tilewise::runtime {
namespace {

const std::string kData = TILEWISE_RUNTIME_DATA;

/// A model's folder without rotary scaling, which is not written.
void copy_without_scaling(const std::string& model, const TemporaryFolder& folder) {
  std::ifstream file(kData + "/" + model + "/config.json");
  const std::string config{std::istreambuf_iterator<char>(file), {}};
  std::ofstream(folder / "config.json") << std::regex_replace(config, std::regex("\"rope_type\": \"[a-z0-9]*\""),
                                                              "\"rope_type\": \"default\"");
  std::filesystem::copy_file(kData + "/" + model + "/model.safetensors", folder / "model.safetensors");
}

/// Logits, or hidden states, behind the first of 20 tokens and all others.
std::vector<float> computed(const std::string& path) {
  const auto model = load_model(path, nn::Precision::precise).transformer;
  const nn::TransformerShape& shape = model->shape();
  std::vector<std::int32_t> tokens(20);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * i * 7 + 3) % 64;
  const nn::StepLimits limits{.tokens = 20, .chunks = 1, .length = 20};
  const std::int64_t length = 20;
  std::vector<float> out(tokens.size() * static_cast<std::size_t>(shape.is_encoder ? shape.width : shape.vocabulary));
  if (shape.is_encoder) {
    nn::Encoder(model, limits, default_executor()).forward(tokens, {&length, 1}, out.data());
    return out;
  }
  KvCache cache(model->cache_shape(2, DType::float32));
  const KvSequence sequence = cache.start();
  cache.append(sequence, tokens);
  const nn::Chunk chunk{sequence, tokens, 0, nn::Logits::all};
  nn::Decoder(model, cache.shape(), limits, default_executor()).forward({&chunk, 1}, cache, out.data());
  return out;
}

class QuantizedFamilies : public ::testing::TestWithParam<const char*> {};

TEST_P(QuantizedFamilies, ComputeWhatTheyDid) {
  const TemporaryFolder folder;
  copy_without_scaling(GetParam(), folder);
  const std::vector<float> before = computed(folder.path());
  const QuantizeReport report = quantize_model(folder.path(), folder / "written.gguf");
  const std::vector<float> after = computed(folder / "written.gguf");
  ASSERT_EQ(after.size(), before.size());
  double squares = 0, errors = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    squares += static_cast<double>(before[i]) * static_cast<double>(before[i]);
    errors += std::pow(static_cast<double>(after[i]) - static_cast<double>(before[i]), 2);
  }
  // Matrices that were rounded are off by 0.6% of their root mean square, the others by nothing; rows out of order
  // leave nothing in common.
  EXPECT_LT(std::sqrt(errors / squares), 0.02);
  int rounded = 0;
  for (const QuantizedTensor& tensor : report.tensors) rounded += tensor.to == "q8_0" ? 1 : 0;
  const bool has_rows_of_blocks = std::string(GetParam()) != "qwen2" && std::string(GetParam()) != "bert";
  EXPECT_EQ(rounded > 0, has_rows_of_blocks);
}

INSTANTIATE_TEST_SUITE_P(Each, QuantizedFamilies, ::testing::Values("llama", "qwen2", "mistral", "gpt2", "bert"),
                         [](const auto& family) { return std::string(family.param); });

TEST(QuantizeModel, RefusesWhatCannotBeSaidInGguf) {
  const TemporaryFolder folder;
  const std::string message =
      refusal([&] { quantize_model(kData + "/llama", folder / "written.gguf"); }, ErrorCode::unsupported);
  EXPECT_NE(message.find("'llama3'"), std::string::npos) << message;
  EXPECT_FALSE(std::filesystem::exists(folder / "written.gguf"));
}

}  // namespace
}  // namespace tilewise::runtime
