// A model that was opened: its weights, its tokenizer, and what its file says of conversations.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/tokenizer/tokenizer.h"
#include "nn/transformer.h"
#include "runtime/chat_template.h"
#include "runtime/load_model.h"
#include "runtime/sequence.h"
#include "tilewise/model.h"

namespace tilewise::runtime {

class OpenedModel {
 public:
  /// As Model::open().
  OpenedModel(const std::string& path, const ModelOptions& options);

  const ModelInfo& info() const { return info_; }
  const std::shared_ptr<const nn::Transformer>& transformer() const { return loaded_.transformer; }
  const std::optional<Variant>& variant() const { return options_.variant; }
  const Variant& attention() const { return options_.variant ? *options_.variant : transformer()->variant(); }
  bool is_precise() const { return options_.precise; }
  Executor& executor() const { return *options_.executor; }

  const io::Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::vector<std::int32_t>& end_tokens() const { return end_tokens_; }

  /// As Model::encode_chat().
  std::vector<std::int32_t> encode_chat(std::span<const ChatMessage> messages) const;

  /// A cache's dtype where nobody chose one.
  DType cache_dtype() const { return options_.precise ? DType::float32 : DType::float16; }

  /// Throws Error(unsupported) for an encoder. `what` begins the message: "generate".
  void expect_generates(const char* what) const;

  /// Throws Error(invalid_argument) on a token outside of the vocabulary.
  void expect_tokens(std::span<const std::int32_t> tokens) const;

 private:
  void read_chat_template();
  void find_end_tokens();
  void describe(const std::string& path);

  ModelOptions options_;
  LoadedModel loaded_;
  std::unique_ptr<const io::Tokenizer> tokenizer_;
  bool has_template_ = false;
  std::optional<ChatTemplate> chat_template_;
  std::vector<std::int32_t> end_tokens_;
  ModelInfo info_;
};

}  // namespace tilewise::runtime
