#include "runtime/chat_template.h"

#include <array>
#include <utility>

#include "core/fail.h"

namespace tilewise::runtime {
namespace {

constexpr std::array kFamilies = {ChatFamily::chatml, ChatFamily::llama2, ChatFamily::llama3, ChatFamily::mistral,
                                  ChatFamily::zephyr};

std::string stripped(std::string_view text) {
  // Jinja's trim and Python's strip() as far as ASCII goes.
  static constexpr std::string_view kSpace = " \t\n\r\f\v";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

class Parts {
 public:
  Parts& marker(std::string_view text) { return add(text, true); }
  Parts& text(std::string_view text) { return add(text, false); }
  std::vector<ChatPart> take() { return std::move(parts_); }

 private:
  Parts& add(std::string_view text, bool is_marker) {
    if (text.empty()) return *this;
    if (!is_marker && !parts_.empty() && !parts_.back().is_marker) {
      parts_.back().text += text;
    } else {
      parts_.push_back({std::string(text), is_marker});
    }
    return *this;
  }
  std::vector<ChatPart> parts_;
};

/// What the templates of Llama 2 and Mistral demand: an optional system message, then user and assistant by turns.
void expect_turns(std::span<const ChatMessage> messages, std::size_t first, ChatFamily family) {
  for (std::size_t i = first; i < messages.size(); ++i) {
    const char* expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role != expected) {
      fail_argument(
          "message {} is of role '{}'; the chat template ({}) takes {}user and assistant by turns, so '{}' here", i,
          messages[i].role, to_string(family), first == 0 ? "" : "a system message first, then ", expected);
    }
  }
}

std::vector<ChatPart> render_chatml(std::span<const ChatMessage> messages, std::string_view begin,
                                    const std::string& default_system) {
  Parts parts;
  parts.marker(begin);
  const auto message = [&](std::string_view role, std::string_view content) {
    parts.marker("<|im_start|>").text(role).text("\n").text(content).marker("<|im_end|>").text("\n");
  };
  if (!default_system.empty() && messages[0].role != "system") message("system", default_system);
  for (const ChatMessage& each : messages) message(each.role, each.content);
  return parts.marker("<|im_start|>").text("assistant\n").take();
}

std::vector<ChatPart> render_llama3(std::span<const ChatMessage> messages, std::string_view begin, bool has_dates) {
  Parts parts;
  parts.marker(begin);
  const auto open = [&](std::string_view role) -> Parts& {
    return parts.marker("<|start_header_id|>").text(role).marker("<|end_header_id|>").text("\n\n");
  };
  if (has_dates) {
    // The date is the one that the templates take where they are told none: an answer should not depend on the day.
    const bool has_system = messages[0].role == "system";
    open("system").text("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    parts.text(has_system ? stripped(messages[0].content) : "").marker("<|eot_id|>");
    if (has_system) messages = messages.subspan(1);
  }
  for (const ChatMessage& each : messages) open(each.role).text(stripped(each.content)).marker("<|eot_id|>");
  open("assistant");
  return parts.take();
}

std::vector<ChatPart> render_llama2(std::span<const ChatMessage> messages, std::string_view begin,
                                    std::string_view end) {
  const bool has_system = messages[0].role == "system";
  expect_turns(messages, has_system ? 1 : 0, ChatFamily::llama2);
  Parts parts;
  for (std::size_t i = has_system ? 1 : 0; i < messages.size(); ++i) {
    std::string content = messages[i].content;
    if (has_system && i == 1) content = "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n" + content;
    if (messages[i].role == "user") {
      parts.marker(begin).text("[INST] ").text(stripped(content)).text(" [/INST]");
    } else {
      parts.text(" ").text(stripped(content)).text(" ").marker(end);
    }
  }
  return parts.take();
}

std::vector<ChatPart> render_mistral(std::span<const ChatMessage> messages, std::string_view begin,
                                     std::string_view end, const MistralForm& form) {
  const bool has_system = form.takes_system && messages[0].role == "system";
  expect_turns(messages, has_system ? 1 : 0, ChatFamily::mistral);
  Parts parts;
  parts.marker(begin);
  for (std::size_t i = has_system ? 1 : 0; i < messages.size(); ++i) {
    const std::string& content = messages[i].content;
    if (messages[i].role == "user") {
      parts.marker("[INST]").text(form.opened);
      if (has_system && i + 1 == messages.size()) parts.text(messages[0].content).text("\n\n");
      parts.text(content).text(form.closed).marker("[/INST]");
    } else {
      parts.text(form.before_answer).text(form.strips_answers ? stripped(content) : content);
      parts.marker(end).text(form.behind_answer);
    }
  }
  return parts.take();
}

std::vector<ChatPart> render_zephyr(std::span<const ChatMessage> messages, std::string_view end) {
  Parts parts;
  for (const ChatMessage& each : messages) {
    parts.marker("<|" + each.role + "|>").text("\n").text(each.content).marker(end).text("\n");
  }
  return parts.marker("<|assistant|>").text("\n").take();
}

}  // namespace

const char* to_string(ChatFamily family) {
  switch (family) {
    case ChatFamily::chatml: return "chatml";
    case ChatFamily::llama2: return "llama2";
    case ChatFamily::llama3: return "llama3";
    case ChatFamily::mistral: return "mistral";
    case ChatFamily::zephyr: return "zephyr";
  }
  return "";
}

std::string chat_family_names() {
  std::string names;
  for (const ChatFamily family : kFamilies) names += (names.empty() ? "" : ", ") + std::string(to_string(family));
  return names;
}

std::vector<ChatPart> ChatTemplate::render(std::span<const ChatMessage> messages, std::string_view begin,
                                           std::string_view end) const {
  if (messages.empty()) fail_argument("messages is empty; expected at least one");
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      fail_argument("message {} is of role '{}'; expected system, user or assistant", i, role);
    }
  }
  switch (family_) {
    case ChatFamily::chatml: return render_chatml(messages, begins_ ? begin : "", default_system_);
    case ChatFamily::llama2: return render_llama2(messages, begin, end);
    case ChatFamily::llama3: return render_llama3(messages, begins_ ? begin : "", has_dates_);
    case ChatFamily::mistral: return render_mistral(messages, begin, end, mistral_);
    case ChatFamily::zephyr: return render_zephyr(messages, end);
  }
  return {};
}

std::vector<io::TokenId> encode_parts(std::span<const ChatPart> parts, const io::Tokenizer& tokenizer) {
  std::vector<io::TokenId> tokens;
  std::string text;  // since the last control token
  const auto flush = [&] {
    const auto encoded = tokenizer.encode(text, {.add_special = false, .parse_control = false});
    tokens.insert(tokens.end(), encoded.begin(), encoded.end());
    text.clear();
  };
  for (const ChatPart& part : parts) {
    const auto token = part.is_marker ? tokenizer.find(part.text) : std::nullopt;
    if (!token || !tokenizer.is_control(*token)) {
      text += part.text;
      continue;
    }
    flush();
    tokens.push_back(*token);
  }
  flush();
  return tokens;
}

}  // namespace tilewise::runtime
