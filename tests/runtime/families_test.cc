// Families of models: what transformers computes from the same files (data/, written by make_references.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "runtime/load_model.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace tilewise::runtime {
namespace {

const std::string kData = TILEWISE_RUNTIME_DATA;

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

template <class T>
std::vector<T> read(const std::string& path) {
  const std::string bytes = bytes_of(path);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

/// Logits of all tokens, or hidden states.
std::vector<float> computed(const LoadedModel& loaded, std::span<const std::int32_t> tokens) {
  const nn::TransformerShape& s = loaded.transformer->shape();
  const auto count = static_cast<std::int64_t>(tokens.size());
  const nn::StepLimits limits{.tokens = count, .chunks = 1, .length = count};
  if (s.is_encoder) {
    std::vector<float> hidden(tokens.size() * static_cast<std::size_t>(s.width));
    nn::Encoder(loaded.transformer, limits, default_executor()).forward(tokens, {&count, 1}, hidden.data());
    return hidden;
  }
  std::vector<float> logits(tokens.size() * static_cast<std::size_t>(s.vocabulary));
  KvCache cache(loaded.transformer->cache_shape(4, DType::float32));
  nn::Decoder decoder(loaded.transformer, cache.shape(), limits, default_executor());
  const KvSequence sequence = cache.start();
  cache.append(sequence, tokens);
  const nn::Chunk chunks[] = {{sequence, tokens, 0, nn::Logits::all}};
  decoder.forward(chunks, cache, logits.data());
  return logits;
}

class Families : public ::testing::TestWithParam<const char*> {};

TEST_P(Families, GiveTheLogitsOfTransformers) {
  const std::string folder = kData + "/" + GetParam();
  const bool is_gguf = std::filesystem::exists(folder + "/model.gguf");
  const LoadedModel loaded = load_model(is_gguf ? folder + "/model.gguf" : folder);
  EXPECT_EQ(loaded.gguf != nullptr, is_gguf);
  const auto tokens = read<std::int32_t>(folder + "/tokens.i32");
  const auto expected = read<float>(folder + "/logits.f32");
  const auto logits = computed(loaded, tokens);
  ASSERT_EQ(logits.size(), expected.size());
  float largest = 0;
  for (const float value : expected) largest = std::max(largest, std::abs(value));
  EXPECT_GT(largest, 1.0F);
  // Both compute in float32, through two layers.
  for (std::size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 2e-5F * largest) << i;
}

INSTANTIATE_TEST_SUITE_P(Each, Families,
                         ::testing::Values("llama", "llama_linear", "llama_longrope", "qwen2", "qwen2_gguf", "mistral",
                                           "gpt2", "gpt2_gguf", "bert"),
                         [](const auto& family) { return std::string(family.param); });

TEST(LoadModel, TakesASafetensorsFileAsItsFolder) {
  const LoadedModel loaded = load_model(kData + "/llama/model.safetensors");
  EXPECT_EQ(loaded.architecture, "llama");
  EXPECT_EQ(loaded.folder, kData + "/llama");
  EXPECT_EQ(loaded.transformer->shape().h_kv, 2);
  EXPECT_EQ(loaded.transformer->shape().d_qk, 8);
}

TEST(LoadModel, KnowsMistralsWindow) {
  EXPECT_EQ(to_string(load_model(kData + "/mistral").transformer->variant()), to_string(parse_variant("window(7)")));
}

/// A model's folder with a change to its config.json.
class ChangedModel {
 public:
  ChangedModel(const std::string& model, const std::string& pattern, const std::string& replacement) {
    const std::string config = bytes_of(kData + "/" + model + "/config.json");
    const std::string changed = std::regex_replace(config, std::regex(pattern), replacement);
    EXPECT_NE(config, changed) << pattern;
    std::ofstream(folder_ / "config.json") << changed;
    std::filesystem::copy_file(kData + "/" + model + "/model.safetensors", folder_ / "model.safetensors");
  }
  std::string load(ErrorCode code) const {
    return refusal([&] { load_model(folder_.path()); }, code);
  }

 private:
  TemporaryFolder folder_;
};

void expect_parts(const std::string& message, std::initializer_list<std::string> parts) {
  for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << part << ": " << message;
}

TEST(LoadModel, NamesWhatIsNotSupportedAndWhatIs) {
  const auto unsupported = [](const char* model, const char* pattern, const char* replacement) {
    return ChangedModel(model, pattern, replacement).load(ErrorCode::unsupported);
  };
  expect_parts(unsupported("llama", "\"model_type\": \"llama\"", "\"model_type\": \"mamba\""),
               {"mamba", "bert", "gpt2", "llama", "mistral", "qwen2"});
  expect_parts(unsupported("llama", "\"rope_type\": \"llama3\"", "\"rope_type\": \"dynamic\""),
               {"dynamic", "yarn", "llama3"});
  expect_parts(unsupported("llama", "\"silu\"", "\"laplace\""), {"laplace", "silu"});
  expect_parts(unsupported("llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"),
               {"model.layers.1.", "no place"});
  expect_parts(unsupported("gpt2", "\"scale_attn_weights\": true", "\"scale_attn_weights\": false"), {"scores"});
}

TEST(LoadModel, NamesTensorsThatContradictTheSettings) {
  const auto contradictory = [](const char* pattern, const char* replacement) {
    return ChangedModel("llama", pattern, replacement).load(ErrorCode::parse);
  };
  expect_parts(contradictory("\"intermediate_size\": 24", "\"intermediate_size\": 32"),
               {"model.layers.0.mlp.gate_proj.weight", "[24, 16]", "[32, 16]"});
  expect_parts(contradictory("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
               {"model.layers.2.", "has no tensor"});
  expect_parts(contradictory("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"), {"4 query heads", "3"});
  expect_parts(contradictory("\"factor\": 4.0", "\"factor\": 0.0"), {"model.safetensors", "factor is 0"});
  expect_parts(contradictory("\"hidden_size\": 16", "\"hidden_size\": -16"), {"config.json", "hidden_size"});
  expect_parts(contradictory("\"rms_norm_eps\": 1e-05,", ""), {"config.json", "rms_norm_eps"});
}

/// Inputs for each file. A model takes longer than a header, so a long run (tools/fuzz_long) tries a tenth as many.
int inputs() {
  const char* asked = std::getenv("TILEWISE_FUZZ_INPUTS");  // NOLINT(concurrency-mt-unsafe): no thread sets it
  return asked == nullptr ? 200 : std::atoi(asked) / 10;    // NOLINT(cert-err34-c): a developer's own
}

/// One to four bytes changed, most of them among settings and names, which come first; sometimes an end cut off, a
/// number of config.json taken for another.
std::string changed(std::string bytes, std::mt19937& random) {
  static constexpr const char* kNumbers[] = {"0",    "-1", "1", "2147483648", "1e308", "9223372036854775807",
                                             "null", "[]"};
  const std::size_t reach = random() % 4 == 0 ? bytes.size() : std::min<std::size_t>(bytes.size(), 4096);
  for (std::uint32_t n = 1 + random() % 4; n > 0; --n) {
    const std::size_t at = random() % reach;
    const std::size_t digit = bytes.find_first_of("0123456789", at);
    const bool is_settings = bytes.front() == '{' && random() % 4 > 0;
    if (is_settings && digit != std::string::npos) {
      bytes.replace(digit, 1, kNumbers[random() % std::size(kNumbers)]);
    } else {
      bytes[at] = static_cast<char>(random());
    }
  }
  if (random() % 10 == 0) bytes.resize(random() % bytes.size());
  return bytes;
}

/// Whatever a file holds, it is refused with an Error or computed.
void survive_changes(const std::string& model, const std::string& file) {
  SCOPED_TRACE(model);
  const TemporaryFolder folder;
  for (const char* other : {"config.json", "model.safetensors"}) {
    if (std::filesystem::exists(kData + "/" + model + "/" + other)) {
      std::filesystem::copy_file(kData + "/" + model + "/" + other, folder / other);
    }
  }
  const std::string bytes = bytes_of(kData + "/" + model + "/" + file);
  int loaded = 0, refused = 0;
  for (int i = 0; i < inputs(); ++i) {
    std::mt19937 random(static_cast<unsigned>(i));
    std::ofstream(folder / file, std::ios::binary) << changed(bytes, random);
    try {
      const LoadedModel one = load_model(file == "model.gguf" ? folder / file : folder.path());
      const std::vector<std::int32_t> tokens(3, 0);
      if (one.transformer->shape().context >= 3) computed(one, tokens);
      ++loaded;
    } catch (const Error&) {
      ++refused;
    } catch (const std::exception& error) {
      FAIL() << "input " << i << " made it throw something else: " << error.what();
    }
  }
  EXPECT_GT(loaded, inputs() / 20);
  EXPECT_GT(refused, inputs() / 20);
}

TEST(Fuzz, ModelsInGguf) {
  for (const char* model : {"qwen2_gguf", "gpt2_gguf"}) survive_changes(model, "model.gguf");
}

TEST(Fuzz, ModelsInSafetensors) {
  for (const char* model : {"llama", "gpt2", "bert"}) survive_changes(model, "model.safetensors");
}

TEST(Fuzz, SettingsOfModels) {
  for (const char* model : {"llama", "llama_longrope", "mistral", "qwen2", "gpt2", "bert"}) {
    survive_changes(model, "config.json");
  }
}

TEST(LoadModel, SaysWhichFileIsMissing) {
  TemporaryFolder folder;
  EXPECT_NE(refusal([&] { load_model(folder / "none.gguf"); }, ErrorCode::io), "");
  std::filesystem::copy_file(kData + "/llama/model.safetensors", folder / "model.safetensors");
  expect_parts(refusal([&] { load_model(folder.path()); }, ErrorCode::io), {"config.json"});
}

}  // namespace
}  // namespace tilewise::runtime
