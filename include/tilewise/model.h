// Models: what is in their files, and a model that was opened: its text, its logits, its embeddings.
//
//   const Model model = Model::open("SmolLM2-135M-Instruct.Q4_1.gguf");
//   const std::vector<std::int32_t> tokens = model.encode("The capital of France is");
//   std::vector<float> logits(tokens.size() * static_cast<std::size_t>(model.info().vocabulary));
//   model.logits(tokens, logits);
//
// tilewise/generate.h continues texts, tilewise/quantize.h writes smaller files.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tilewise/executor.h"
#include "tilewise/variant.h"

namespace tilewise {

/// A tensor of a model file.
struct ModelTensor {
  std::string name{};
  std::string storage{};              ///< "float32", "bfloat16", "q4_1": how its elements are stored.
  std::vector<std::int64_t> shape{};  // [rank], the contiguous axis last
  std::uint64_t offset = 0;           ///< From the start of the file.
  std::int64_t bytes = 0;
};

/// A setting of a model file, as text. A long array is its length and its first elements.
struct ModelSetting {
  std::string name{};
  std::string type{};  ///< "uint32", "string", "array of float32".
  std::string value{};
};

/// What a model file says of itself.
struct ModelFile {
  std::string path{};
  std::string format{};        ///< "GGUF version 3" or "safetensors".
  std::string architecture{};  ///< Of GGUF, such as "llama"; empty where the file does not say.
  std::int64_t bytes = 0;
  std::int64_t parameters = 0;  ///< Elements of all tensors.
  std::vector<ModelSetting> settings{};
  std::vector<ModelTensor> tensors{};
};

/// Reads a GGUF or safetensors file's header; which one it is, the file itself tells. Text from the file comes as valid
/// UTF-8 without control characters, however hostile the file.
///
/// Throws Error(io) where the file cannot be read, Error(parse) where it is neither format or malformed, naming path,
/// offset and tensor, and Error(unsupported) on versions and storage types that are not supported.
ModelFile inspect_model(const std::string& path);

/// How a model computes, fixed when it is opened.
struct ModelOptions {
  /// Multiply dequantised weights with float32 activations, instead of 4- to 8-bit weights with 16-bit activations:
  /// slower, and closer to the weights as they are stored.
  bool precise = false;

  /// Attention under this variant in place of the model's own (causal, or what its file says).
  std::optional<Variant> variant{};

  /// Of models whose file has no tokenizer: the path of their tokenizer.json, by default beside the file.
  std::string tokenizer{};

  /// Who runs the work; must outlive the model. By default the library's own pool.
  Executor* executor = nullptr;
};

/// What a model is.
struct ModelInfo {
  std::string path{};
  std::string architecture{};  ///< "llama", "gpt2", "bert".
  std::string name{};          ///< What the file calls itself; may be empty.
  bool generates = false;      ///< Whether it continues text; else it only embeds.
  std::int64_t layers = 0;
  std::int64_t width = 0;  ///< Elements of a token's state, and of an embedding.
  std::int64_t h_q = 0, h_kv = 0;
  std::int64_t d_qk = 0, d_v = 0;
  std::int64_t vocabulary = 0;  ///< Logits of a token.
  std::int64_t context = 0;     ///< Tokens that it was trained to see at once.
  std::int64_t parameters = 0;  ///< Elements of all tensors.
  std::int64_t bytes = 0;       ///< Of the file that holds the weights.
  std::string variant{};        ///< Of attention, in the textual form.
  std::string chat_template{};  ///< The known family of its template, such as "chatml"; empty: none, or not known.
  bool reaches_past_context = false;  ///< Whether generation may go on behind `context`: see GeneratorOptions.
};

/// A message of a conversation.
struct ChatMessage {
  std::string role{};  ///< "system", "user" or "assistant".
  std::string content{};
};

/// How encode() reads a text.
struct EncodeTextOptions {
  bool add_special = true;     ///< Put around it what the file asks for, such as a token for the text's beginning.
  bool parse_control = false;  ///< Read "<|im_start|>" in it as that token. Never for text that strangers wrote.
};

/// How log_probabilities() and perplexity() walk over a text.
struct PerplexityOptions {
  /// Tokens that the model sees at once, 2 to its context; 0: 1024, or the context where that is less.
  std::int64_t window = 0;
  /// Tokens at the beginning of each window but the first that are not scored, since they were scored in the window
  /// before and serve as what precedes the others: 0 to window - 1, and by default half a window.
  std::optional<std::int64_t> overlap{};
};

/// How well a model foretells a text.
struct Perplexity {
  std::int64_t tokens = 0;     ///< Scored: all of the text but the first.
  double log_probability = 0;  ///< The sum over them, natural log.
  double perplexity = 0;       ///< exp(-log_probability / tokens); 1 for no token.
};

/// How embed() makes a vector of a text.
struct EmbedOptions {
  bool normalise = true;         ///< Scale each vector to length 1.
  std::int64_t most_tokens = 0;  ///< Longer texts are cut off behind as many, special ones included; 0: the context.
};

namespace runtime {
class OpenedModel;
}

/// An opened model. Constant and cheap to copy; copies share the weights, and threads may. The weights stay in the
/// file, which is mapped: it must not change while a model is open.
class Model {
 public:
  /// Opens a GGUF file, or a safetensors file with config.json (and tokenizer.json) beside it.
  ///
  /// Throws Error(io) where a file cannot be read, Error(parse) where it is malformed or contradicts itself, and
  /// Error(unsupported) on architectures and storage types that are not supported, naming those that are; each names
  /// file, setting or tensor.
  static Model open(const std::string& path, const ModelOptions& options = {});

  const ModelInfo& info() const;

  // ---- text ----

  /// The tokens of a text. Bytes that are no UTF-8 read as U+FFFD.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeTextOptions& options = {}) const;

  /// The text of tokens: valid UTF-8, without control tokens unless asked for. Throws Error(invalid_argument) on a
  /// number that is no token.
  std::string decode(std::span<const std::int32_t> tokens, bool with_control = false) const;

  /// The tokens of a conversation under the file's chat template, up to where the assistant's answer begins. What
  /// messages say is never read as a control token.
  ///
  /// Throws Error(unsupported) where the file has no template or one of no known family, naming those that are known;
  /// Error(invalid_argument) on other roles and on an order of messages that the family does not take.
  std::vector<std::int32_t> encode_chat(std::span<const ChatMessage> messages) const;

  /// Whether a token ends an answer.
  bool ends(std::int32_t token) const;

  // ---- one pass over a text ----

  /// The logits behind each token. Throws Error(invalid_argument) on tokens outside of the vocabulary, on more of them
  /// than the context, on a span of another size, and on models that do not generate.
  void logits(std::span<const std::int32_t> tokens, std::span<float> logits) const;  // logits [tokens, vocabulary]

  /// The natural log of each token's probability behind those before it, as far as its window shows them; 0 for the
  /// first. Throws as logits(), but for the context: a longer text is seen in windows.
  std::vector<double> log_probabilities(std::span<const std::int32_t> tokens,  // [tokens]
                                        const PerplexityOptions& options = {}) const;

  /// The same, summed. exp() of the mean negative log-probability of a token.
  Perplexity perplexity(std::span<const std::int32_t> tokens, const PerplexityOptions& options = {}) const;

  /// A vector for each text: the mean of its tokens' states behind the last layer (Reimers and Gurevych,
  /// "Sentence-BERT", 2019), normalised if asked for. Throws Error(unsupported) for a model that generates.
  std::vector<float> embed(std::span<const std::string> texts, const EmbedOptions& options = {}) const;
  // [texts, width]

  /// For the library's own use.
  const std::shared_ptr<const runtime::OpenedModel>& loaded() const { return loaded_; }

 private:
  explicit Model(std::shared_ptr<const runtime::OpenedModel> loaded) : loaded_(std::move(loaded)) {}

  std::shared_ptr<const runtime::OpenedModel> loaded_;
};

}  // namespace tilewise
