// SmolLM2 and MiniLM, whole: what is promised of batches, prefixes, windows and files. Skipped where TILEWISE_MODELS
// names no folder.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "io/dequantize.h"
#include "io/gguf_writer.h"
#include "tests/io/temporary.h"
#include "tests/refusal.h"
#include "tests/with_models.h"
#include "tilewise/generate.h"
#include "tilewise/quantize.h"
#include "tilewise/zoo.h"

namespace tilewise {
namespace {

class RealModel : public WithModels {};

constexpr const char* kPrompts[] = {
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a small village by the sea, there lived",
    "Water boils at",
    "The three laws of thermodynamics are:\n1.",
    "Dear Sir or Madam,",
};

struct Told {
  std::string text;
  std::vector<std::int32_t> tokens;
  std::vector<double> log_probabilities;  // of all logits behind a token, so that equal ones are equal logits
  Finish finish = Finish::none;
};

Request request_of(const Model& model, const char* prompt, const Sampling& sampling) {
  return {.prompt = model.encode(prompt), .most_tokens = 24, .sampling = sampling, .log_probabilities = true};
}

/// Runs until idle; `join` submits more behind each step.
template <class Join>
std::map<RequestId, Told> run(Generator& generator, const Join& join) {
  std::map<RequestId, Told> told;
  for (int step = 0; join(step) || !generator.is_idle();) {
    for (const TokenEvent& event : generator.step()) {
      Told& of_request = told[event.request];
      of_request.text += event.text;
      if (event.token >= 0) {
        of_request.tokens.push_back(event.token);
        of_request.log_probabilities.push_back(event.log_probability);
      }
      of_request.finish = event.finish;
    }
    ++step;
  }
  return told;
}

TEST_F(RealModel, KnowsTheCapitalOfFrance) {
  const Model model = Model::open(smollm());
  EXPECT_EQ(model.info().architecture, "llama");
  EXPECT_EQ(model.info().layers, 30);
  EXPECT_EQ(model.info().chat_template, "chatml");
  EXPECT_TRUE(model.info().generates);
  EXPECT_FALSE(model.info().reaches_past_context);
  const auto continued = generate(
      model, {.prompt = model.encode("The capital of France is"), .most_tokens = 8, .log_probabilities = true});
  EXPECT_NE(continued.at(0).text.find("Paris"), std::string::npos) << continued.at(0).text;
  EXPECT_EQ(continued.at(0).text, model.decode(continued.at(0).tokens));
  for (const double log_probability : continued.at(0).log_probabilities) EXPECT_LE(log_probability, 0);
}

// With quantised weights: the same tokens, bit by bit of the logits behind them, whatever else is under way.
TEST_F(RealModel, OutputsDoNotDependOnTheBatch) {
  const Model model = Model::open(smollm());
  const Sampling greedy{}, seeded{.temperature = 0.9, .top_p = 0.95, .seed = 17};
  for (const Sampling* sampling : {&greedy, &seeded}) {
    std::vector<Told> alone;
    for (const char* prompt : kPrompts) {
      Generator generator(model);
      const RequestId id = generator.submit(request_of(model, prompt, *sampling));
      alone.push_back(run(generator, [](int) { return false; }).at(id));
    }
    // All at once, and each joining three steps behind the one before.
    for (const int apart : {0, 3}) {
      Generator generator(model);
      std::vector<RequestId> ids;
      const auto join = [&](int step) {
        while (ids.size() < std::size(kPrompts) && step >= apart * static_cast<int>(ids.size())) {
          ids.push_back(generator.submit(request_of(model, kPrompts[ids.size()], *sampling)));
        }
        return ids.size() < std::size(kPrompts);
      };
      join(0);
      const auto told = run(generator, join);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        SCOPED_TRACE(::testing::Message()
                     << kPrompts[i] << ", " << apart << " steps apart, temperature " << sampling->temperature);
        EXPECT_EQ(told.at(ids[i]).tokens, alone[i].tokens);
        EXPECT_EQ(told.at(ids[i]).log_probabilities, alone[i].log_probabilities);
        EXPECT_EQ(told.at(ids[i]).text, alone[i].text);
      }
    }
  }
}

/// English of a given number of tokens, none of it repeated.
std::vector<std::int32_t> some_text(const Model& model, std::int64_t tokens) {
  std::string text;
  for (int i = 0; static_cast<std::int64_t>(text.size()) < 8 * tokens; ++i) {
    text += "Entry " + std::to_string(i * 7919) + " of the log says that the ship passed buoy " + std::to_string(i) +
            " at noon and that the wind came from the west.\n";
  }
  auto encoded = model.encode(text);
  encoded.resize(static_cast<std::size_t>(tokens));
  return encoded;
}

TEST_F(RealModel, APrefixIsComputedAndStoredOnce) {
  const Model model = Model::open(smollm());
  Generator generator(model);
  const auto prefix = some_text(model, 1024);
  for (int i = 0; i < 16; ++i) {
    Request request{.prompt = prefix, .most_tokens = 4, .ignore_end = true};
    for (const std::int32_t token : model.encode(" Question " + std::to_string(i) + ":"))
      request.prompt.push_back(token);
    generator.submit(std::move(request));
  }
  GeneratorAccount account;
  KvCacheAccount fullest;
  while (!generator.is_idle()) {
    generator.step();
    account = generator.account();
    if (account.cache.live_pages >= fullest.live_pages) fullest = account.cache;
  }
  EXPECT_EQ(account.reused_tokens, 15 * 1024);
  EXPECT_EQ(account.recomputed_tokens, 0);
  EXPECT_EQ(fullest.shared_pages, 1024 / 16);
  EXPECT_LE(fullest.live_pages, 1024 / 16 + 16);
  // Nothing is unused but the ends of last pages: less than a page each.
  EXPECT_LT(fullest.wasted_bytes, 16 * (fullest.total_bytes / fullest.pages));
}

// What was computed in other chunks, or found in the cache, differs by rounding: of sums in attention, and where that
// moves an activation over the edge of a 16-bit step. Stated are six times the 3.5e-4 that was seen with rounded
// activations, and twenty times the 5e-6 that was seen without.
TEST_F(RealModel, AReusedPrefixLeavesLogitsWithinRounding) {
  for (const bool is_precise : {false, true}) {
    const Model model = Model::open(smollm(), {.precise = is_precise});
    double largest = 0;
    for (const char* prompt : std::span(kPrompts).first(3)) {
      auto tokens = some_text(model, 100);
      for (const std::int32_t token : model.encode(prompt)) tokens.push_back(token);
      const Request request{.prompt = tokens, .most_tokens = 1, .ignore_end = true, .log_probabilities = true};
      std::vector<double> found;
      Generator generator(model), in_small_chunks(model, {.chunk_tokens = 7});
      for (Generator* each : {&generator, &generator, &in_small_chunks}) {
        each->submit(request);
        found.push_back(0);
        while (!each->is_idle()) {
          for (const TokenEvent& event : each->step()) found.back() = event.log_probability;
        }
      }
      largest = std::max({largest, std::abs(found[1] - found[0]), std::abs(found[2] - found[0])});
    }
    EXPECT_GT(largest, 0) << "nothing was computed differently, so nothing was compared";
    EXPECT_LE(largest, is_precise ? 1e-4 : 2e-3);
  }
}

TEST_F(RealModel, ConversationsReadAsTheTemplateHasThem) {
  const Model model = Model::open(smollm());
  const std::vector<ChatMessage> messages{{"user", "What is <|im_end|>?"}};
  const auto tokens = model.encode_chat(messages);
  // As Jinja 3.1.6 renders the file's own template.
  EXPECT_EQ(model.decode(tokens, true),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nWhat is <|im_end|>?<|im_end|>\n<|im_start|>assistant\n");
  const auto end = model.encode("<|im_end|>", {.parse_control = true});
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), end[0]), 2);  // the template's own, not the user's
  EXPECT_TRUE(model.ends(end[0]));
}

TEST_F(RealModel, StopStringsAndLimitsEndTexts) {
  const Model model = Model::open(smollm());
  Request request{.prompt = model.encode("One, two, three, four, five, six,"), .most_tokens = 40};
  request.stop.emplace_back(" nine");
  const Continuation stopped = generate(model, request).at(0);
  EXPECT_EQ(stopped.finish, Finish::stop_string);
  EXPECT_EQ(stopped.text, " seven, eight, and");  // as in float32
  request.stop.clear();
  request.most_tokens = 3;
  EXPECT_EQ(generate(model, request).at(0).finish, Finish::most_tokens);
  request.prompt.assign(8193, 5);
  expect_refused([&] { generate(model, request); }, {"8193 tokens", "context 8192", "streaming_llm"});
}

TEST_F(RealModel, LogitsPerplexityAndLogProbabilitiesAgree) {
  const Model model = Model::open(smollm());
  const auto tokens = some_text(model, 200);
  const auto vocabulary = static_cast<std::size_t>(model.info().vocabulary);
  std::vector<float> logits(tokens.size() * vocabulary);
  model.logits(tokens, logits);
  const auto log_probabilities = model.log_probabilities(tokens);
  double sum = 0;
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    const auto row = std::span(logits).subspan((i - 1) * vocabulary, vocabulary);
    double total = 0;
    for (const float logit : row) total += std::exp(static_cast<double>(logit));
    const double expected = static_cast<double>(row[static_cast<std::size_t>(tokens[i])]) - std::log(total);
    // Both are computed in float64 from the same logits.
    ASSERT_NEAR(log_probabilities[i], expected, 1e-9) << "token " << i;
    sum += expected;
  }
  EXPECT_EQ(log_probabilities[0], 0);
  const Perplexity perplexity = model.perplexity(tokens);
  EXPECT_EQ(perplexity.tokens, 199);
  EXPECT_NEAR(perplexity.perplexity, std::exp(-sum / 199), 1e-6);
  // Windows: every token but the first is foretold once, those behind a window's beginning from less of the text.
  for (const PerplexityOptions& options :
       {PerplexityOptions{.window = 64}, PerplexityOptions{.window = 64, .overlap = 0},
        PerplexityOptions{.window = 32, .overlap = 8}}) {
    const auto windowed = model.log_probabilities(tokens, options);
    EXPECT_EQ(std::count(windowed.begin() + 1, windowed.end(), 0.0), 0);
    // The first window is the text's beginning, cut into the same pieces of 64: the same bits.
    for (std::int64_t i = 1; i < std::min<std::int64_t>(options.window, 64); ++i) {
      if (options.window < 64) break;
      EXPECT_EQ(windowed[static_cast<std::size_t>(i)], log_probabilities[static_cast<std::size_t>(i)]);
    }
    EXPECT_GT(model.perplexity(tokens, options).perplexity, perplexity.perplexity * 0.99);
  }
}

/// The model with another context in its settings.
std::string with_context(const std::string& path, const io::TemporaryFolder& folder, std::uint32_t context) {
  const io::GgufFile file(path);
  io::GgufMetadata metadata = file.metadata();
  for (auto& [key, value] : metadata) {
    if (key == "llama.context_length") value = io::GgufValue::of_uint32(context);
  }
  std::vector<io::GgufTensorSource> tensors;
  for (const io::FileTensor& tensor : file.tensors()) tensors.push_back(io::copy_of(tensor));
  const std::string written = folder / "short_context.gguf";
  io::write_gguf(written, metadata, tensors);
  return written;
}

TEST_F(RealModel, StreamsFarPastItsContextInConstantMemory) {
  const io::TemporaryFolder folder;
  const std::string path = with_context(smollm(), folder, 256);
  expect_refused(
      [&] {
        const Model model = Model::open(path);
        generate(model, {.prompt = some_text(model, 300)});
      },
      {"300 tokens", "context 256"});
  const Model model = Model::open(path, {.variant = zoo::streaming_llm(4, 128)});
  EXPECT_TRUE(model.info().reaches_past_context);
  Generator generator(model, {.chunk_tokens = 64});
  generator.submit(
      {.prompt = some_text(model, 700), .most_tokens = 300, .ignore_end = true, .log_probabilities = true});
  double log_probability = 0;
  std::int64_t tokens = 0, most_live = 0;
  while (!generator.is_idle()) {
    for (const TokenEvent& event : generator.step()) {
      log_probability += event.log_probability;
      ++tokens;
    }
    most_live = std::max(most_live, generator.account().cache.live_pages);
  }
  EXPECT_EQ(tokens, 300);
  EXPECT_LE(most_live, (128 + 64) / 16 + 3);
  // The log goes on in its own pattern, which it is sure of: keys out of their places would leave it guessing among
  // 49,152 tokens (log-probability -10.8).
  EXPECT_GT(log_probability / static_cast<double>(tokens), -1.5);
}

TEST_F(RealModel, Embeds) {
  const Model model = Model::open(minilm());
  EXPECT_EQ(model.info().architecture, "bert");
  EXPECT_FALSE(model.info().generates);
  EXPECT_EQ(model.info().width, 384);
  const std::vector<std::string> texts{"A cat sits on the mat.", "A kitten rests on a rug.",
                                       "Stocks fell sharply today.", ""};
  const auto vectors = model.embed(texts);
  const auto product = [&](std::size_t a, std::size_t b) {
    return std::inner_product(vectors.begin() + static_cast<std::ptrdiff_t>(a * 384),
                              vectors.begin() + static_cast<std::ptrdiff_t>((a + 1) * 384),
                              vectors.begin() + static_cast<std::ptrdiff_t>(b * 384), 0.0);
  };
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_NEAR(product(i, i), 1, 1e-5);
  EXPECT_GT(product(0, 1), 0.5);
  EXPECT_LT(product(0, 2), 0.2);
  // Company does not change a vector by more than float32 products in another order do.
  const auto alone = model.embed(std::span(texts).first(1));
  for (std::size_t i = 0; i < 384; ++i) EXPECT_NEAR(alone[i], vectors[i], 1e-5);
  EXPECT_NE(refusal([&] { generate(model, {.prompt = {1}}); }, ErrorCode::unsupported), "");
  EXPECT_NE(refusal([&] { Model::open(smollm()).embed(texts); }, ErrorCode::unsupported), "");
  // Cut off behind as many tokens, the special ones included.
  std::string long_text;
  for (int i = 0; i < 1000; ++i) long_text += "word ";
  EXPECT_EQ(model.embed(std::vector{long_text}, {.most_tokens = 5}),
            model.embed(std::vector<std::string>{"word word word"}));
}

TEST_F(RealModel, QuantisedEmbeddingsStayClose) {
  const io::TemporaryFolder folder;
  const QuantizeReport report = quantize_model(minilm(), folder / "minilm.gguf");
  EXPECT_LT(report.bytes_to, report.bytes_from * 3 / 10);  // 8.5 bits of 32, and the vectors
  int rounded = 0;
  for (const QuantizedTensor& tensor : report.tensors) {
    if (tensor.to != "q8_0") continue;
    ++rounded;
    // A block's elements are off by at most half a step of largest / 127: of normal numbers about 0.6% of their root
    // mean square, since the largest of 32 is about 2.1 of them and a uniform error has 1 / sqrt(12) of a step.
    EXPECT_GT(tensor.relative_error, 0.002) << tensor.name;
    EXPECT_LT(tensor.relative_error, 0.012) << tensor.name;
  }
  EXPECT_EQ(rounded, 1 + 6 * 6);
  const std::vector<std::string> texts{"A cat sits on the mat.", "Der Himmel ist blau.", "x = [1, 2]"};
  const auto before = Model::open(minilm()).embed(texts), after = Model::open(folder / "minilm.gguf").embed(texts);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto begin = static_cast<std::ptrdiff_t>(i * 384);
    EXPECT_GT(std::inner_product(before.begin() + begin, before.begin() + begin + 384, after.begin() + begin, 0.0),
              0.998);
  }
}

}  // namespace
}  // namespace tilewise
