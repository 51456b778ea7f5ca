// Models that quantize_model() wrote compute what the files they came from do: names, settings and the order of rows
// are right, or nothing would be.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <regex>
#include <set>

#include "runtime/load_model.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tilewise/quantize.h"

namespace tilewise::runtime {
namespace {

const std::string kData = TILEWISE_RUNTIME_DATA;

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

/// Relative to the root mean square of `before`.
double difference(const std::vector<float>& before, const std::vector<float>& after) {
  double squares = 0, errors = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    squares += static_cast<double>(before[i]) * static_cast<double>(before[i]);
    errors += std::pow(static_cast<double>(after[i]) - static_cast<double>(before[i]), 2);
  }
  return std::sqrt(errors / squares);
}

/// A model with a change to its config.json.
void copy_changed(const std::string& model, const std::string& from, const std::string& to,
                  const TemporaryFolder& folder) {
  std::ifstream file(kData + "/" + model + "/config.json");
  const std::string config{std::istreambuf_iterator<char>(file), {}};
  const std::string changed = std::regex_replace(config, std::regex(from), to);
  EXPECT_NE(changed, config) << from;
  std::ofstream(folder / "config.json") << changed;
  std::filesystem::copy_file(kData + "/" + model + "/model.safetensors", folder / "model.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
}

class QuantizedFamilies : public ::testing::TestWithParam<const char*> {};

TEST_P(QuantizedFamilies, ComputeWhatTheyDid) {
  const TemporaryFolder folder;
  const std::string model = kData + "/" + GetParam();
  const std::vector<float> before = computed(model);
  const QuantizeReport report = quantize_model(model, folder / "written.gguf");
  const std::vector<float> after = computed(folder / "written.gguf");
  ASSERT_EQ(after.size(), before.size());
  int rounded = 0;
  for (const QuantizedTensor& tensor : report.tensors) rounded += tensor.to == "q8_0" ? 1 : 0;
  const std::set<std::string> have_rows_of_blocks = {"llama", "mistral", "gpt2"};
  EXPECT_EQ(rounded > 0, have_rows_of_blocks.contains(GetParam()));
  // Matrices that were rounded are off by 0.6% of their root mean square, others by nothing, so that only frequencies
  // that were divided in float32 differ; rows out of order, or another rotary scaling, leave nothing in common.
  EXPECT_LT(difference(before, after), rounded > 0 ? 0.02 : 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Each, QuantizedFamilies,
                         ::testing::Values("llama", "llama_linear", "llama_longrope", "qwen2", "mistral", "gpt2",
                                           "bert"),
                         [](const auto& family) { return std::string(family.param); });

// What changes a scaling and is set rarely goes along, too.
TEST(QuantizeModel, KeepsEverySettingOfRotaryScaling) {
  std::vector<std::vector<float>> all;
  for (const char* settings :
       {"", ", \"attention_factor\": 0.6", ", \"beta_slow\": 0.1", ", \"beta_slow\": 0.1, \"beta_fast\": 0.3"}) {
    SCOPED_TRACE(settings);
    const TemporaryFolder folder;
    copy_changed("llama", "\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"" + std::string(settings), folder);
    const std::vector<float> before = computed(folder.path());
    for (const auto& other : all) EXPECT_GT(difference(other, before), 0.03) << "changes nothing, so it tests nothing";
    all.push_back(before);
    quantize_model(folder.path(), folder / "written.gguf");
    EXPECT_LT(difference(before, computed(folder / "written.gguf")), 0.02);  // of rounded weights, as above
  }
}

TEST(QuantizeModel, RefusesWhatCannotBeSaidInGguf) {
  const TemporaryFolder folder;
  const auto told = [&](const char* from, const char* to) {
    copy_changed("llama", from, to, folder);
    return refusal([&] { quantize_model(folder.path(), folder / "written.gguf"); }, ErrorCode::unsupported);
  };
  EXPECT_NE(told("\"rope_type\": \"llama3\"", "\"rope_type\": \"dynamic\"").find("dynamic"), std::string::npos);
  EXPECT_NE(told("\"rope_type\"", "\"partial_rotary_factor\": 0.5, \"rope_type\"").find("partial_rotary_factor"),
            std::string::npos);
  EXPECT_NE(told("\"silu\"", "\"gelu\"").find("hidden_act"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "written.gguf"));
}

}  // namespace
}  // namespace tilewise::runtime
