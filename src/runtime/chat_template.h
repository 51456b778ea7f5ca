// Chat templates: a conversation as the text that a model was trained to continue.
//
// Files bring them as programs in Jinja. Running a stranger's program to join five strings is more than is needed: the
// families in use are few, so a template is recognised and its family rendered here. One that is not recognised is
// refused, since text that is almost right makes a model worse without anyone noticing.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/tokenizer.h"
#include "tilewise/model.h"

namespace tilewise::runtime {

/// A part of a rendered conversation. A marker is the template's own, such as "<|im_start|>": a control token where the
/// tokenizer has one. Other text is never read as one.
struct ChatPart {
  std::string text;
  bool is_marker = false;
};

enum class ChatFamily : std::uint8_t { chatml, llama2, llama3, mistral, zephyr };

/// "chatml", "llama2", "llama3", "mistral", "zephyr".
const char* to_string(ChatFamily family);

/// "chatml, llama2, ...", for messages.
std::string chat_family_names();

/// What Mistral's templates write around messages, besides their markers.
struct MistralForm {
  std::string opened, closed;  // of a user's message, within [INST] and [/INST]
  std::string before_answer, behind_answer;
  bool strips_answers = false;
  bool takes_system = false;  // in front of the last user's message, since version 3
};

/// A template that was recognised, with what it sets within its family.
class ChatTemplate {
 public:
  /// nullopt where `text`, a template in Jinja, is of no known family. Whether it reads as Jinja is not looked at.
  static std::optional<ChatTemplate> recognise(std::string_view text);

  ChatFamily family() const { return family_; }

  /// The conversation, up to where the assistant's answer begins. `begin`, `end`: how the tokenizer writes the tokens
  /// that begin and end a text; may be empty. Throws Error(invalid_argument) on a role other than "system", "user" and
  /// "assistant", and on an order of messages that the template itself refuses.
  std::vector<ChatPart> render(std::span<const ChatMessage> messages, std::string_view begin,
                               std::string_view end) const;

 private:
  explicit ChatTemplate(ChatFamily family) : family_(family) {}

  ChatFamily family_;
  bool begins_ = false;         // chatml, llama3: with the token that begins a text
  std::string default_system_;  // chatml: what stands in for a system message that is missing
  bool has_dates_ = false;      // llama3: a system message always, with the dates of Llama 3.1
  MistralForm mistral_;
};

/// The template beside a safetensors file: chat_template.jinja, or chat_template of tokenizer_config.json (of several,
/// the one named "default"); nullopt where there is none. Throws Error(io), Error(parse) on files that do not read.
std::optional<std::string> chat_template_in(const std::filesystem::path& folder);

/// A rendered conversation as tokens.
std::vector<io::TokenId> encode_parts(std::span<const ChatPart> parts, const io::Tokenizer& tokenizer);

}  // namespace tilewise::runtime
