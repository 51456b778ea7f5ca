// Tokenizers by example and by law; tokenizer_test.py holds them to the references.
#include "io/tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/io/small_tokenizers.h"
#include "tests/refusal.h"

namespace tilewise::io {
namespace {

std::unique_ptr<const Tokenizer> from_settings(const GgufMetadata& settings) {
  const TemporaryFolder folder;
  write_gguf(folder / "t.gguf", settings, {});
  return load_tokenizer(GgufFile(folder / "t.gguf"));
}

std::unique_ptr<const Tokenizer> from_json(const nlohmann::ordered_json& json) {
  const TemporaryFolder folder;
  return load_tokenizer_json(folder.put("tokenizer.json", json.dump()));
}

using Ids = std::vector<TokenId>;

TEST(Tokenizer, MergesWithinPieces) {
  const auto tokenizer = from_settings(small_settings());
  // h e l l -> hell; the space goes with what follows, and digits stand alone.
  EXPECT_EQ(tokenizer->encode("hello w7"), (Ids{kHell, 'o', kSpaceW, '7'}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("hello w7")), "hello w7");
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->end_token(), kEnd);
  EXPECT_EQ(tokenizer->find("hell"), kHell);
}

TEST(Tokenizer, ControlTokensAreTextUnlessAskedFor) {
  const auto tokenizer = from_settings(small_settings());
  const Ids read = tokenizer->encode("a<|end|>[user]", {.parse_control = true});
  EXPECT_EQ(read, (Ids{'a', kEnd, kUser}));
  EXPECT_EQ(tokenizer->decode(read), "a[user]");
  EXPECT_EQ(tokenizer->decode(read, true), "a<|end|>[user]");
  const Ids text = tokenizer->encode("a<|end|>[user]");
  EXPECT_EQ(std::count(text.begin(), text.end(), kEnd), 0);
  EXPECT_EQ(tokenizer->decode(text), "a<|end|>[user]");
}

TEST(Tokenizer, AddedTokensTakeSpaceAlong) {
  const auto tokenizer = from_json(small_json());
  EXPECT_EQ(tokenizer->encode("a \n[user] \t b"), (Ids{'a', kUser, 'b'}));
  EXPECT_EQ(tokenizer->encode("<|end|>", {.parse_control = true}), Ids{kEnd});
}

TEST(Tokenizer, SentencePieceMergesByScoreAndFallsBackToBytes) {
  const auto tokenizer = from_settings(small_sentence_piece());
  EXPECT_EQ(tokenizer->encode("ab"), (Ids{1, 262}));
  EXPECT_EQ(tokenizer->encode("ab", {.add_special = false}), Ids{262});
  EXPECT_EQ(tokenizer->encode("\xC3\xA9", {.add_special = false}), (Ids{258, 2 + 0xC3, 2 + 0xA9}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(" ab \xC3\xA9")), " ab \xC3\xA9");
}

TEST(Tokenizer, WordPieceTakesTheLongestTokens) {
  const auto tokenizer = from_json(small_word_piece());
  EXPECT_EQ(tokenizer->encode("Playing R\xC3\xA9sum\xC3\xA9!"), (Ids{1, 2, 3, 5, 4}));
  EXPECT_EQ(tokenizer->encode("played"), (Ids{1, 0}));
  EXPECT_EQ(tokenizer->decode(Ids{1, 2, 3, 5, 4}), "playing resume!");
}

// A heap, not a search for each merge: a megabyte without any break is done at once.
TEST(Tokenizer, LongPiecesAreNoAttack) {
  const auto tokenizer = from_settings(small_settings());
  const std::string text(1 << 20, 'l');
  const Ids ids = tokenizer->encode(text);
  EXPECT_EQ(ids.size(), text.size() / 2);
  EXPECT_EQ(tokenizer->decode(ids), text);
}

/// Bytes with many whole characters among them.
std::string some_bytes() {
  std::string bytes;
  for (const int value : *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 400))) {
    if (value < 256) {
      bytes += static_cast<char>(value);
    } else {
      append_utf8(static_cast<std::uint32_t>((value - 256) * 700), bytes);
    }
  }
  return valid_utf8(bytes, Replacement::maximal_part).size() > 0 ? bytes : "a";
}

RC_GTEST_PROP(TokenizerLaws, DecodingGivesTheTextBack, ()) {
  static const auto kTokenizers = [] {
    std::vector<std::unique_ptr<const Tokenizer>> all;
    for (const char* name : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
      GgufMetadata settings = small_settings(name);
      settings.emplace_back("tokenizer.ggml.add_bos_token", GgufValue::of_bool(false));
      all.push_back(from_settings(settings));
    }
    return all;
  }();
  const std::string bytes = some_bytes();
  for (const auto& tokenizer : kTokenizers) {
    RC_ASSERT(tokenizer->decode(tokenizer->encode(bytes)) == valid_utf8(bytes, Replacement::maximal_part));
  }
}

RC_GTEST_PROP(TokenizerLaws, DetokenizingNeverGivesHalfACharacter, ()) {
  static const std::unique_ptr<const Tokenizer> kTokenizers[] = {
      from_settings(small_settings()), from_settings(small_sentence_piece()), from_json(small_word_piece())};
  for (const auto& tokenizer : kTokenizers) {
    const auto size = static_cast<TokenId>(tokenizer->size());
    const Ids ids = *rc::gen::container<Ids>(rc::gen::inRange<TokenId>(0, size));
    Detokenizer detokenizer(*tokenizer);
    std::string text;
    for (const TokenId id : ids) {
      const std::string part = detokenizer.add(id);
      RC_ASSERT(valid_utf8(part, Replacement::each_byte) == part);
      text += part;
    }
    text += detokenizer.finish();
    RC_ASSERT(text == tokenizer->decode(ids));
    RC_ASSERT(valid_utf8(text, Replacement::each_byte) == text);
  }
}

// ---- refusals ----

TEST(Tokenizer, NumbersThatAreNoTokensAreRefused) {
  const auto tokenizer = from_settings(small_settings());
  expect_refused([&] { tokenizer->decode(Ids{262}); }, {"token 262", "0 to 261"});
  expect_refused([&] { tokenizer->decode(Ids{-1}); }, {"token -1"});
}

struct SettingDefect {
  const char* name;
  const char* key;  // taken out, or given `value`
  std::optional<GgufValue> value;
  const char* told;
  ErrorCode code = ErrorCode::parse;
};

class SettingDefects : public ::testing::TestWithParam<SettingDefect> {};

TEST_P(SettingDefects, AreTold) {
  const SettingDefect& defect = GetParam();
  GgufMetadata settings = small_settings();
  std::erase_if(settings, [&](const auto& setting) { return setting.first == defect.key; });
  if (defect.value) settings.emplace_back(defect.key, *defect.value);
  const std::string message = refusal([&] { from_settings(settings); }, defect.code);
  EXPECT_NE(message.find(defect.told), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Tokenizer, SettingDefects,
    ::testing::Values(
        SettingDefect{"NoModel", "tokenizer.ggml.model", std::nullopt, "'tokenizer.ggml.model' is missing"},
        SettingDefect{"OtherModel", "tokenizer.ggml.model", GgufValue::of_string("rwkv"), "supported are gpt2, llama",
                      ErrorCode::unsupported},
        SettingDefect{"NoPretokenizer", "tokenizer.ggml.pre", std::nullopt, "'tokenizer.ggml.pre' is missing"},
        SettingDefect{"OtherPretokenizer", "tokenizer.ggml.pre", GgufValue::of_string("bloom"), "supported are gpt-2",
                      ErrorCode::unsupported},
        SettingDefect{"NoTokens", "tokenizer.ggml.tokens", std::nullopt, "is missing"},
        SettingDefect{"TokenTwice", "tokenizer.ggml.tokens", GgufValue::of_strings({"a", "b", "a"}),
                      "is token 0 already"},
        SettingDefect{"BrokenToken", "tokenizer.ggml.tokens", GgufValue::of_strings({"\xFF"}), "is no UTF-8"},
        SettingDefect{"FewKinds", "tokenizer.ggml.tokens", GgufValue::of_strings({"a"}),
                      "has 262 elements; expected 1"},
        SettingDefect{"MergeOfOne", "tokenizer.ggml.merges", GgufValue::of_strings({"he"}), "a space between them"},
        SettingDefect{"MergeUnknown", "tokenizer.ggml.merges", GgufValue::of_strings({"h z"}), "must be tokens"},
        SettingDefect{"EndOutside", "tokenizer.ggml.eos_token_id", GgufValue::of_uint32(262), "expected 0 to 261"},
        SettingDefect{"BeginUnnamed", "tokenizer.ggml.add_bos_token", GgufValue::of_bool(true), "does not name"}),
    [](const auto& test) { return test.param.name; });

TEST(Tokenizer, SentencePieceDefectsAreTold) {
  static const std::vector<float> kFew{1.0F}, kNan(263, NAN);
  for (const auto& [values, told] :
       {std::pair{std::span(kFew), "has 1 elements; expected 263"}, {std::span(kNan), "expected a finite number"}}) {
    GgufMetadata settings = small_sentence_piece();
    for (auto& [key, value] : settings) {
      if (key == "tokenizer.ggml.scores") value = GgufValue::of_floats(values);
    }
    const std::string message = refusal([&] { from_settings(settings); }, ErrorCode::parse);
    EXPECT_NE(message.find(told), std::string::npos) << message;
  }
}

TEST(Tokenizer, JsonDefectsAreToldWithTheirPlace) {
  const auto told = [](nlohmann::ordered_json json, ErrorCode code = ErrorCode::parse) {
    return refusal([&] { from_json(json); }, code);
  };
  const auto changed = [](const char* pointer, const nlohmann::ordered_json& value) {
    nlohmann::ordered_json json = small_json();
    json[nlohmann::ordered_json::json_pointer(pointer)] = value;
    return json;
  };
  const auto expect = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect(told(changed("/model/vocab", 3)), "model/vocab: is a JSON number; expected an object");
  expect(told(changed("/model/vocab/h", -1)), "model/vocab/h: is -1");
  expect(told(changed("/model/vocab/h", 2000000000)), "far beyond");
  expect(told(changed("/model/vocab/h", 0)), "taken already");
  expect(told(changed("/model/merges/0", "he")), "model/merges/0");
  expect(told(changed("/model/merges/0", "h z")), "must be tokens");
  expect(told(changed("/model/merges/0", {"h", "e", "l"})), "has 3 tokens");
  expect(told(changed("/model/type", "Unigram"), ErrorCode::unsupported), "BPE and WordPiece");
  expect(told(changed("/pre_tokenizer/type", "Metaspace"), ErrorCode::unsupported), "pre_tokenizer: not supported");
  expect(told(changed("/normalizer", {{"type", "Lowercase"}}), ErrorCode::unsupported), "normalizer");
  expect(told(changed("/model/byte_fallback", true), ErrorCode::unsupported), "byte_fallback");
  expect(told(changed("/added_tokens/0/single_word", true), ErrorCode::unsupported), "single_word");
  expect(told(changed("/post_processor", {{"type", "Other"}}), ErrorCode::unsupported), "TemplateProcessing");
}

}  // namespace
}  // namespace tilewise::io
