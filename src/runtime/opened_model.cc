#include "runtime/opened_model.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <set>

#include "core/fail.h"
#include "io/model_format.h"
#include "runtime/reach.h"

namespace tilewise::runtime {
namespace {

// Files name one token that ends a text; models that were trained on conversations end their turns by others as well.
constexpr std::string_view kEnds[] = {"<|im_end|>", "<|eot_id|>",    "<|eom_id|>", "<|end_of_text|>",
                                      "<|end|>",    "<|endoftext|>", "</s>",       "<|end_of_turn|>"};
constexpr std::string_view kEndSettings[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};

ModelOptions with_executor(ModelOptions options) {
  if (options.executor == nullptr) options.executor = &default_executor();
  return options;
}

/// The weights' file, where a model is given by its folder.
std::string weights_path(const std::string& path) {
  return std::filesystem::is_directory(path) ? (std::filesystem::path(path) / "model.safetensors").string() : path;
}

std::unique_ptr<const io::Tokenizer> tokenizer_of(const std::string& path, const std::string& given) {
  if (!given.empty()) return io::load_tokenizer_json(given);
  const std::filesystem::path weights(weights_path(path));
  if (io::is_gguf(weights.string())) return io::load_tokenizer(io::GgufFile(weights.string()));
  return io::load_tokenizer_json((weights.parent_path() / "tokenizer.json").string());
}

}  // namespace

OpenedModel::OpenedModel(const std::string& path, const ModelOptions& options) : options_(with_executor(options)) {
  // A tokenizer takes one thread a quarter of the time that the weights take all of them. (SmolLM2: 80 ms.)
  auto tokenizer = std::async(std::launch::async, [&] { return tokenizer_of(path, options_.tokenizer); });
  loaded_ = load_model(path, options.precise ? nn::Precision::precise : nn::Precision::rounded, *options_.executor);
  tokenizer_ = tokenizer.get();
  const std::int64_t vocabulary = transformer()->shape().vocabulary;
  if (tokenizer_->size() > vocabulary) {
    fail(ErrorCode::parse, "{}: the tokenizer has {} tokens and the model takes {}", path, tokenizer_->size(),
         vocabulary);
  }
  read_chat_template();
  find_end_tokens();
  describe(path);
}

void OpenedModel::read_chat_template() {
  constexpr std::string_view kSetting = "tokenizer.chat_template";
  std::optional<std::string> text;
  if (loaded_.gguf != nullptr) {
    if (loaded_.gguf->has(kSetting)) text = std::string(loaded_.gguf->string(kSetting));
  } else {
    text = chat_template_in(loaded_.folder);
  }
  has_template_ = text.has_value();
  if (text) chat_template_ = ChatTemplate::recognise(*text);
}

void OpenedModel::find_end_tokens() {
  std::set<std::int32_t> found;
  if (const auto end = tokenizer_->end_token()) found.insert(*end);
  for (const std::string_view text : kEnds) {
    const auto token = tokenizer_->find(text);
    if (token && tokenizer_->is_control(*token)) found.insert(*token);
  }
  if (loaded_.gguf != nullptr) {
    for (const std::string_view key : kEndSettings) {
      if (!loaded_.gguf->has(key)) continue;
      found.insert(static_cast<std::int32_t>(loaded_.gguf->integer(key, 0, tokenizer_->size() - 1)));
    }
  }
  end_tokens_.assign(found.begin(), found.end());
}

void OpenedModel::describe(const std::string& path) {
  const nn::TransformerShape& shape = transformer()->shape();
  info_ = {.path = path,
           .architecture = loaded_.architecture,
           .generates = !shape.is_encoder,
           .layers = shape.layers,
           .width = shape.width,
           .h_q = shape.h_q,
           .h_kv = shape.h_kv,
           .d_qk = shape.d_qk,
           .d_v = shape.d_v,
           .vocabulary = shape.vocabulary,
           .context = shape.context,
           .variant = to_string(attention())};
  if (chat_template_) info_.chat_template = to_string(chat_template_->family());
  if (loaded_.gguf != nullptr) {
    constexpr std::string_view kName = "general.name";
    if (loaded_.gguf->has(kName)) info_.name = std::string(loaded_.gguf->string(kName));
    info_.bytes = static_cast<std::int64_t>(loaded_.gguf->bytes());
    for (const io::FileTensor& tensor : loaded_.gguf->tensors()) {
      info_.parameters += io::product(tensor.shape).value_or(0);
    }
  } else {
    const ModelFile file = inspect_model(weights_path(path));
    info_.bytes = file.bytes;
    info_.parameters = file.parameters;
  }
  if (info_.generates && shape.is_rotary) {
    constexpr std::int64_t kPageTokens = 16;  // what a generator takes if it is told nothing else
    UnseenKeys unseen(attention(), shape.h_q, shape.h_kv, kPageTokens);
    info_.reaches_past_context = reach_of(unseen, shape.context, kPageTokens).past_context;
  }
}

void OpenedModel::expect_generates(const char* what) const {
  if (info_.generates) return;
  fail(ErrorCode::unsupported,
       "{}: {}: a model of the family '{}' reads whole texts and generates none; embed() takes it", what, info_.path,
       info_.architecture);
}

void OpenedModel::expect_tokens(std::span<const std::int32_t> tokens) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= info_.vocabulary) {
      fail_argument("token {} is {}; expected 0 to {}", i, tokens[i], info_.vocabulary - 1);
    }
  }
}

std::vector<std::int32_t> OpenedModel::encode_chat(std::span<const ChatMessage> messages) const {
  if (!chat_template_) {
    fail(ErrorCode::unsupported,
         "{}: {}. Families that are known: {}. Other conversations can be put into text by the caller and encoded with "
         "parse_control",
         info_.path,
         has_template_ ? "its chat template is of no known family"
                       : "it has no chat template, so it was probably not trained on conversations",
         chat_family_names());
  }
  const auto text = [this](std::optional<io::TokenId> token) { return token ? tokenizer_->text(*token) : ""; };
  const auto parts = chat_template_->render(messages, text(tokenizer_->begin_token()), text(tokenizer_->end_token()));
  return encode_parts(parts, *tokenizer_);
}

}  // namespace tilewise::runtime
