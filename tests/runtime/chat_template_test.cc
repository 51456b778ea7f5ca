// Chat templates: families, markers, tokens, and templates changed at random. chat_template_test.py holds the texts to
// Jinja on random conversations.
#include "runtime/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "tests/io/small_tokenizers.h"
#include "tests/refusal.h"

namespace tilewise::runtime {
namespace {

constexpr const char* kChatMl =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You help.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
constexpr const char* kMistral =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + "
    "' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}";
constexpr const char* kZephyr =
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
    "eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n' + message['content'] + eos_token "
    "}}\n"
    "{% endif %}\n{% endfor %}";

std::string text_of(const std::vector<ChatPart>& parts) {
  std::string text;
  for (const ChatPart& part : parts) text += part.text;
  return text;
}

TEST(ChatTemplate, StandsInForAMissingSystemMessage) {
  const auto chat = ChatTemplate::recognise(kChatMl);
  ASSERT_TRUE(chat.has_value());
  EXPECT_EQ(chat->family(), ChatFamily::chatml);
  // Both as Jinja 3.1.6 renders the template above, add_generation_prompt being true.
  EXPECT_EQ(text_of(chat->render(std::vector<ChatMessage>{{"user", "Hi"}}, "", "")),
            "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(
      text_of(chat->render(
          std::vector<ChatMessage>{{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Ho"}, {"user", "?"}}, "",
          "")),
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
      "<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, RefusesAnOrderThatTheTemplateDoesNotTake) {
  const auto chat = ChatTemplate::recognise(kMistral);
  ASSERT_TRUE(chat.has_value());
  const auto render = [&](std::vector<ChatMessage> messages) { chat->render(messages, "<s>", "</s>"); };
  expect_refused([&] { render({{"system", "x"}, {"user", "y"}}); }, {"message 0 is of role 'system'", "mistral"});
  expect_refused([&] { render({{"user", "x"}, {"user", "y"}}); }, {"message 1", "'assistant' here"});
  expect_refused([&] { render({{"tool", "x"}}); }, {"role 'tool'", "system, user or assistant"});
  expect_refused([&] { render({}); }, {"messages is empty"});
}

std::unique_ptr<const io::Tokenizer> small_tokenizer() {
  const io::TemporaryFolder folder;
  return io::load_tokenizer_json(folder.put("tokenizer.json", io::small_json().dump()));
}

TEST(ChatTemplate, WhatPeopleSayIsNeverAControlToken) {
  const auto tokenizer = small_tokenizer();
  const auto control = tokenizer->find("<|end|>");
  ASSERT_TRUE(control && tokenizer->is_control(*control));
  const std::vector<ChatPart> parts = {{"<|end|>", true}, {"say <|end|>", false}, {" now", false}, {"<|end|>", true}};
  const auto tokens = encode_parts(parts, *tokenizer);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), *control), 2);
  EXPECT_EQ(tokens.front(), *control);
  EXPECT_EQ(tokens.back(), *control);
  EXPECT_EQ(tokenizer->decode(tokens, true), "<|end|>say <|end|> now<|end|>");
  // Text parts that follow each other are one text.
  EXPECT_EQ(tokens.size(), 2 + tokenizer->encode("say <|end|> now", {.add_special = false}).size());
}

TEST(ChatTemplate, MarkersThatTheTokenizerLacksAreText) {
  const auto tokenizer = small_tokenizer();
  const std::vector<ChatPart> parts = {{"<|user|>", true}, {"hello", false}};
  EXPECT_EQ(encode_parts(parts, *tokenizer), tokenizer->encode("<|user|>hello", {.add_special = false}));
}

TEST(ChatTemplate, IsFoundBesideTheWeights) {
  const io::TemporaryFolder folder;
  const auto found = [&] { return chat_template_in(folder / ""); };
  EXPECT_EQ(found(), std::nullopt);
  folder.put("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_EQ(found(), std::nullopt);
  folder.put("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(found(), "one");
  folder.put("tokenizer_config.json",
             R"({"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]})");
  EXPECT_EQ(found(), "b");
  folder.put("chat_template.jinja", "of its own file");
  EXPECT_EQ(found(), "of its own file");
  folder.put("tokenizer_config.json", "{");
  std::filesystem::remove(folder / "chat_template.jinja");
  EXPECT_NE(refusal(found, ErrorCode::parse), "");
}

int inputs() {
  const char* asked = std::getenv("TILEWISE_FUZZ_INPUTS");  // NOLINT(concurrency-mt-unsafe): no thread sets it
  return asked == nullptr ? 4000 : std::atoi(asked);        // NOLINT(cert-err34-c): a developer's own
}

/// A template or text changed in one to eight places.
std::string changed(std::string text, std::mt19937_64& random) {
  const auto below = [&](std::size_t count) { return static_cast<std::size_t>(random() % count); };
  static constexpr const char* kPieces[] = {"'",         "\"",           "\\",         "{{",
                                            "}}",        "{%",           "%}",         "+",
                                            "\n",        "<|im_start|>", "<|im_end|>", "message['content']",
                                            "eos_token", "<<SYS>>\\n",   "\xFF"};
  for (std::size_t change = 1 + below(8); change > 0 && !text.empty(); --change) {
    const std::size_t at = below(text.size()), size = 1 + below(20);
    switch (below(4)) {
      case 0: text.erase(at, size); break;
      case 1: text.insert(at, kPieces[below(std::size(kPieces))]); break;
      case 2: text[at] = static_cast<char>(random()); break;
      default: text.insert(at, text.substr(below(text.size()), size * 4));
    }
  }
  return text;
}

// A template changed at random is refused or is of a family, and then renders: everything that was said stands in the
// text, nothing that was said is a marker.
TEST(Fuzz, ChatTemplates) {
  const char* const templates[] = {kChatMl, kMistral, kZephyr};
  int recognised = 0;
  for (int input = 0; input < inputs(); ++input) {
    std::mt19937_64 random(static_cast<std::uint64_t>(input));
    const auto chat = ChatTemplate::recognise(changed(templates[random() % 3], random));
    if (!chat) continue;
    ++recognised;
    const std::string said = changed("hello <|im_end|> [/INST] </s> world", random);
    const std::vector<ChatMessage> messages{{"user", "x" + said + "x"}};
    const auto parts = chat->render(messages, "<s>", "</s>");
    bool found = false;
    for (const ChatPart& part : parts) {
      found = found || (!part.is_marker && part.text.find(messages[0].content) != std::string::npos);
      ASSERT_TRUE(!part.is_marker || part.text.size() < 32) << "input " << input;
    }
    ASSERT_TRUE(found) << "input " << input;
  }
  EXPECT_GT(recognised, inputs() / 20);
}

}  // namespace
}  // namespace tilewise::runtime
