// Where a chat template is found, and which family it is of.
#include <array>

#include "io/json.h"
#include "io/mapped_file.h"
#include "runtime/chat_template.h"
#include "runtime/template_form.h"

namespace tilewise::runtime {
namespace {

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

/// How a message of ChatML and of Llama 3 is written.
constexpr std::string_view kChatMlMessage = "'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>\\n'";
constexpr std::string_view kLlama3Message =
    "'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'";

/// What the families' templates write into every conversation, in whole statements.
constexpr std::array kChatMlOutputs = {kChatMlMessage, std::string_view("'<|im_start|>assistant\\n'")};
constexpr std::array kLlama3Outputs = {kLlama3Message, std::string_view("content"),
                                       std::string_view("'<|start_header_id|>assistant<|end_header_id|>\\n\\n'")};
constexpr std::array kLlama3DatedOutputs = {kLlama3Message,
                                            std::string_view("'<|start_header_id|>system<|end_header_id|>\\n\\n'"),
                                            std::string_view("'Cutting Knowledge Date: December 2023\\n'"),
                                            std::string_view("'Today Date: '+date_string+'\\n\\n'"),
                                            std::string_view("system_message"),
                                            std::string_view("'<|eot_id|>'")};

/// How Mistral's versions write a user's message and an answer.
std::optional<MistralForm> mistral_form(const TemplateForm& form) {
  if (form.has("'[INST] '+message['content']+' [/INST]'") && form.has("message['content']+eos_token")) {
    MistralForm first;
    first.opened = first.closed = " ";
    first.behind_answer = form.has("message['content']+eos_token+' '") ? " " : "";
    return first;
  }
  for (const std::string space : {" ", ""}) {
    const std::string opened = "'[INST]" + space + "'+";
    if (!form.has(opened + "message['content']+'[/INST]'") ||
        !form.has(opened + "system_message+'\\n\\n'+message['content']+'[/INST]'")) {
      continue;
    }
    MistralForm version3;
    version3.opened = space;
    version3.takes_system = true;
    version3.strips_answers = form.has("message['content']|trim+eos_token");
    if (!version3.strips_answers && !form.has("message['content']+eos_token")) continue;
    if (form.has("' '+message['content']|trim+eos_token") || form.has("' '+message['content']+eos_token")) {
      version3.before_answer = " ";
    }
    return version3;
  }
  return std::nullopt;
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::recognise(std::string_view text) {
  const TemplateForm form(text);
  // Templates that take their answers' reasoning out of a conversation again are another family.
  if (form.has("reasoning_content") || form.has("<think>")) return std::nullopt;
  if (form.has(kChatMlMessage) && form.has("<|im_start|>assistant\\n'") && form.writes_only(kChatMlOutputs) &&
      (form.begins() || !form.has("bos_token"))) {
    ChatTemplate chat(ChatFamily::chatml);
    chat.begins_ = form.begins();
    chat.default_system_ = default_system_of(form.text());
    return chat;
  }
  if (form.has(kLlama3Message)) {
    ChatTemplate chat(ChatFamily::llama3);
    chat.begins_ = form.has("bos_token");
    chat.has_dates_ = form.has("'Cutting Knowledge Date: December 2023\\n'");
    const bool is_known = chat.has_dates_ ? form.writes_only(kLlama3DatedOutputs) : form.writes_only(kLlama3Outputs);
    return is_known ? std::optional(chat) : std::nullopt;
  }
  if (form.has("<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message['content']") &&
      form.has("bos_token+'[INST] '+content.strip()+' [/INST]'") && form.has("' '+content.strip()+' '+eos_token") &&
      form.writes_only({})) {
    return ChatTemplate(ChatFamily::llama2);
  }
  if (const auto mistral = mistral_form(form);
      mistral && !form.has("<<SYS>>") && form.begins() && form.writes_only({})) {
    ChatTemplate chat(ChatFamily::mistral);
    chat.mistral_ = *mistral;
    return chat;
  }
  if (form.has("'<|user|>\\n'+message['content']+eos_token") &&
      form.has("'<|assistant|>\\n'+message['content']+eos_token") && form.writes_lines_on_conditions()) {
    return ChatTemplate(ChatFamily::zephyr);
  }
  return std::nullopt;
}

std::optional<std::string> chat_template_in(const std::filesystem::path& folder) {
  const auto own = folder / "chat_template.jinja", settings = folder / "tokenizer_config.json";
  if (std::filesystem::exists(own)) return std::string(io::MappedFile(own.string()).text());
  if (!std::filesystem::exists(settings)) return std::nullopt;
  const io::MappedFile file(settings.string());
  const auto found = io::JsonValue::parse(file.text(), settings.string()).find("chat_template");
  if (!found) return std::nullopt;
  if (!found->is_array()) return found->string();
  for (std::size_t i = 0; i < found->size(); ++i) {
    const io::JsonValue each = found->element(i);
    if (each.member("name").string() == "default") return each.member("template").string();
  }
  return std::nullopt;
}

}  // namespace tilewise::runtime
