#include "runtime/chat_template.h"

#include <array>
#include <utility>

#include "core/fail.h"

namespace tilewise::runtime {
namespace {

constexpr std::array kFamilies = {ChatFamily::chatml, ChatFamily::llama2, ChatFamily::llama3, ChatFamily::mistral,
                                  ChatFamily::zephyr};

bool is_space(char letter) { return letter == ' ' || letter == '\n' || letter == '\t' || letter == '\r'; }

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// A template's statements in one spelling: white space only within string literals, those in single quotes, with line
/// ends written \n, and joined where two are added; members as message['role']; text between statements without white
/// space; no marks of white-space control.
std::string squeezed(std::string_view text) {
  std::string out;
  char quote = 0;
  bool in_block = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char letter = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (quote != 0) {
      if (letter == '\\' && next != '\0') {
        out += {letter, next};
        ++i;
      } else if (letter == quote) {
        quote = 0;
        out += '\'';
      } else {
        out += letter == '\n' ? std::string("\\n") : std::string(1, letter);
      }
    } else if (in_block && (letter == '\'' || letter == '"')) {
      quote = letter;
      out += '\'';
    } else if (!is_space(letter)) {
      if (letter == '{' && (next == '{' || next == '%')) in_block = true;
      if ((letter == '}' || letter == '%') && next == '}') in_block = false;
      out += letter;
    }
  }
  for (const char* opened : {"{{-", "{%-"}) replace_all(out, opened, std::string_view(opened).substr(0, 2));
  for (const char* closed : {"-}}", "-%}"}) replace_all(out, closed, std::string_view(closed).substr(1));
  replace_all(out, "'+'", "");  // literals that are joined
  replace_all(out, "message.role", "message['role']");
  replace_all(out, "message.content", "message['content']");
  return out;
}

/// The text of a string literal's inside.
std::string unescaped(std::string_view literal) {
  std::string out;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      out += literal[i];
      continue;
    }
    const char letter = literal[++i];
    out += letter == 'n' ? '\n' : letter == 't' ? '\t' : letter;
  }
  return out;
}

/// What a ChatML template says where a conversation has no system message.
std::string default_system_of(std::string_view squeezed_text) {
  static constexpr std::string_view kOpened = "'<|im_start|>system\\n", kClosed = "<|im_end|>";
  for (std::size_t at = squeezed_text.find(kOpened); at != std::string_view::npos;
       at = squeezed_text.find(kOpened, at + 1)) {
    const std::string_view rest = squeezed_text.substr(at + kOpened.size());
    const std::size_t end = rest.find(kClosed);
    std::size_t quote = 0;
    while (quote < rest.size() && rest[quote] != '\'') quote += rest[quote] == '\\' ? 2 : 1;
    if (end != std::string_view::npos && end < quote) return unescaped(rest.substr(0, end));
  }
  return "";
}

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

std::vector<ChatPart> render_chatml(std::span<const ChatMessage> messages, const std::string& default_system) {
  Parts parts;
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
                                     std::string_view end, bool spaced) {
  expect_turns(messages, 0, ChatFamily::mistral);
  Parts parts;
  parts.marker(begin);
  for (const ChatMessage& each : messages) {
    if (each.role == "user") {
      parts.text("[INST] ").text(each.content).text(" [/INST]");
    } else {
      parts.text(each.content).marker(end).text(spaced ? " " : "");
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

std::optional<ChatTemplate> ChatTemplate::recognise(std::string_view text) {
  const std::string form = squeezed(text);
  const auto has = [&form](std::string_view part) { return form.find(part) != std::string::npos; };
  // Templates that take their answers' reasoning out of a conversation again are another family.
  if (has("reasoning_content") || has("<think>")) return std::nullopt;
  if (has("'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>\\n'") &&
      has("<|im_start|>assistant\\n'")) {
    ChatTemplate chat(ChatFamily::chatml);
    chat.default_system_ = default_system_of(form);
    return chat;
  }
  if (has("'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'")) {
    ChatTemplate chat(ChatFamily::llama3);
    chat.has_dates_ = has("'Cutting Knowledge Date: December 2023\\n'");
    return chat;
  }
  if (has("<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message['content']") &&
      has("bos_token+'[INST] '+content.strip()+' [/INST]'") && has("' '+content.strip()+' '+eos_token")) {
    return ChatTemplate(ChatFamily::llama2);
  }
  if (!has("<<SYS>>") && form.starts_with("{{bos_token}}") && has("'[INST] '+message['content']+' [/INST]'") &&
      has("message['content']+eos_token")) {
    ChatTemplate chat(ChatFamily::mistral);
    chat.spaced_ = has("message['content']+eos_token+' '");
    return chat;
  }
  if (has("'<|user|>\\n'+message['content']+eos_token") && has("'<|assistant|>\\n'+message['content']+eos_token")) {
    return ChatTemplate(ChatFamily::zephyr);
  }
  return std::nullopt;
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
    case ChatFamily::chatml: return render_chatml(messages, default_system_);
    case ChatFamily::llama2: return render_llama2(messages, begin, end);
    case ChatFamily::llama3: return render_llama3(messages, begin, has_dates_);
    case ChatFamily::mistral: return render_mistral(messages, begin, end, spaced_);
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
