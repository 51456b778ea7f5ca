// Tokenizers out of a tokenizer.json, the format of the Hugging Face tokenizers.
#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <utility>

#include "core/fail.h"
#include "io/cursor.h"
#include "io/json.h"
#include "io/mapped_file.h"
#include "io/tokenizer/byte_bpe.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/word_piece.h"

namespace tilewise::io {
namespace {

constexpr std::int64_t kMostId = std::numeric_limits<TokenId>::max() - 1;
// Numbers may have gaps, but not so many that a short file takes much memory.
constexpr std::int64_t kMostGaps = 1 << 16;
// The work for a word grows with the square of its length.
constexpr std::int64_t kMostWordCharacters = 1000;

[[noreturn]] void fail_unsupported(const JsonValue& value, const std::string& supported) {
  fail(ErrorCode::unsupported, "{}, {}: not supported; supported {}", value.path(), value.where(), supported);
}

std::string type_of(const JsonValue& value) { return value.member("type").string(); }

bool flag(const JsonValue& value, const std::string& name, bool otherwise) {
  const auto found = value.find(name);
  return found ? found->boolean() : otherwise;
}

std::string text(const JsonValue& value, const std::string& name) {
  const auto found = value.find(name);
  return found ? found->string() : "";
}

/// The elements of a Sequence, under the name that its kind gives the list; else the value itself.
std::vector<JsonValue> steps_of(const std::optional<JsonValue>& value, const std::string& list) {
  std::vector<JsonValue> steps;
  if (!value) return steps;
  if (type_of(*value) != "Sequence") return {*value};
  const JsonValue elements = value->member(list);
  for (std::size_t i = 0; i < elements.size(); ++i) steps.push_back(elements.element(i));
  return steps;
}

// ---- vocabulary ----

struct Entry {
  TokenId id;
  std::string text;
};

std::shared_ptr<const Vocabulary> read_vocabulary(const JsonValue& vocab, const std::optional<JsonValue>& added) {
  std::vector<Entry> entries;
  vocab.for_each([&](const std::string& token, const JsonValue& id) {
    entries.push_back({static_cast<TokenId>(id.integer(0, kMostId)), token});
  });
  if (added) {
    for (std::size_t i = 0; i < added->size(); ++i) {
      const JsonValue token = added->element(i);
      entries.push_back(
          {static_cast<TokenId>(token.member("id").integer(0, kMostId)), token.member("content").string()});
    }
  }
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const Entry& entry : entries) {
    if (entry.id > static_cast<std::int64_t>(entries.size()) + kMostGaps) {
      vocab.fail_here(fmt::format("token '{}' has number {}, far beyond the {} tokens", printable(entry.text), entry.id,
                                  entries.size()));
    }
    const bool again = vocabulary->has(entry.id) && vocabulary->text(entry.id) == entry.text;
    if (!again && !vocabulary->add(entry.id, entry.text)) {
      vocab.fail_here(fmt::format("token '{}' or its number {} is taken already", printable(entry.text), entry.id));
    }
  }
  return vocabulary;
}

std::vector<AddedToken> read_added(const std::optional<JsonValue>& added, const Vocabulary& vocabulary,
                                   bool normalizes) {
  std::vector<AddedToken> tokens;
  for (std::size_t i = 0; added && i < added->size(); ++i) {
    const JsonValue token = added->element(i);
    if (flag(token, "single_word", false)) fail_unsupported(token, "are added tokens without single_word");
    if (normalizes && flag(token, "normalized", false)) {
      fail_unsupported(token, "are added tokens without normalized, where there is a normalizer");
    }
    tokens.push_back({.id = *vocabulary.find(token.member("content").string()),
                      .control = flag(token, "special", false),
                      .left_strip = flag(token, "lstrip", false),
                      .right_strip = flag(token, "rstrip", false)});
  }
  return tokens;
}

// ---- byte-level BPE ----

struct KnownPattern {
  std::string_view pattern;
  Pretokenizer pretokenizer;
};
constexpr std::array<KnownPattern, 2> kPatterns = {{
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pretokenizer::llama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pretokenizer::qwen2},
}};

/// The pre-tokenizer of Split and ByteLevel without its own expression; nullopt for others.
std::optional<Pretokenizer> pattern_of(const JsonValue& split) {
  const JsonValue pattern = split.member("pattern");
  const auto expression = pattern.find("Regex");
  if (!expression || split.member("behavior").string() != "Isolated" || flag(split, "invert", false))
    return std::nullopt;
  for (const KnownPattern& known : kPatterns) {
    if (expression->string() == known.pattern) return known.pretokenizer;
  }
  return std::nullopt;
}

void read_pretokenizer(const JsonValue& root, ByteBpeSettings& settings) {
  const auto told = root.find("pre_tokenizer");
  const std::vector<JsonValue> steps = steps_of(told, "pretokenizers");
  const auto refuse = [&]() {
    fail_unsupported(told.value_or(root),
                     "are ByteLevel; Digits (individual) and ByteLevel; Split by Llama 3's or Qwen 2's expression and "
                     "ByteLevel without its own");
  };
  if (steps.empty() || steps.size() > 2 || type_of(steps.back()) != "ByteLevel") refuse();
  const bool own_expression = flag(steps.back(), "use_regex", true);
  settings.add_prefix_space = flag(steps.back(), "add_prefix_space", true);
  if (steps.size() == 1 && own_expression) {
    settings.pretokenizer = Pretokenizer::gpt2;
    return;
  }
  if (steps.size() == 1 || settings.add_prefix_space) refuse();
  if (type_of(steps[0]) == "Digits" && flag(steps[0], "individual_digits", false) && own_expression) {
    settings.pretokenizer = Pretokenizer::smollm;
    return;
  }
  const auto pattern = type_of(steps[0]) == "Split" && !own_expression ? pattern_of(steps[0]) : std::nullopt;
  if (!pattern) refuse();
  settings.pretokenizer = *pattern;
}

void read_bpe_normalizer(const JsonValue& root, ByteBpeSettings& settings) {
  for (const JsonValue& step : steps_of(root.find("normalizer"), "normalizers")) {
    if (type_of(step) != "NFC") fail_unsupported(step, "are none and NFC for byte-level BPE");
    settings.nfc = true;
  }
}

/// Two texts of ["a", "b"] or "a b".
MergeText read_merge(const JsonValue& merge) {
  if (merge.is_array()) {
    if (merge.size() != 2) merge.fail_here(fmt::format("has {} tokens; expected two", merge.size()));
    return {merge.element(0).string(), merge.element(1).string()};
  }
  const std::string_view both = merge.string();
  const std::size_t space = both.find(' ');
  if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
    merge.fail_here("expected two tokens and a space between them");
  }
  return {both.substr(0, space), both.substr(space + 1)};
}

std::unique_ptr<const TokenModel> read_bpe(const JsonValue& root, const JsonValue& model,
                                           const std::shared_ptr<const Vocabulary>& vocabulary) {
  ByteBpeSettings settings;
  read_pretokenizer(root, settings);
  read_bpe_normalizer(root, settings);
  settings.ignore_merges = flag(model, "ignore_merges", false);
  const bool plain = !model.find("dropout") && text(model, "continuing_subword_prefix").empty() &&
                     text(model, "end_of_word_suffix").empty() && !flag(model, "byte_fallback", false) &&
                     !flag(model, "fuse_unk", false);
  if (!plain) {
    fail_unsupported(model,
                     "is BPE without dropout, continuing_subword_prefix, end_of_word_suffix, byte_fallback, fuse_unk");
  }
  if (const auto unknown = model.find("unk_token")) {
    const auto id = vocabulary->find(unknown->string());
    if (!id) unknown->fail_here(fmt::format("'{}' is no token", printable(unknown->string())));
    settings.unknown = *id;
  }
  const JsonValue list = model.member("merges");
  std::vector<MergeText> merges;
  for (std::size_t i = 0; i < list.size(); ++i) merges.push_back(read_merge(list.element(i)));
  return std::make_unique<ByteBpe>(vocabulary, merges, settings, [&](std::size_t index, const std::string& reason) {
    list.fail_here(fmt::format("element {} {}", index, reason));
  });
}

// ---- WordPiece ----

std::unique_ptr<const TokenModel> read_word_piece(const JsonValue& root, const JsonValue& model,
                                                  const std::shared_ptr<const Vocabulary>& vocabulary) {
  WordPieceSettings settings;
  const JsonValue normalizer = root.member("normalizer");
  if (type_of(normalizer) != "BertNormalizer") fail_unsupported(normalizer, "is BertNormalizer for WordPiece");
  const JsonValue pretokenizer = root.member("pre_tokenizer");
  if (type_of(pretokenizer) != "BertPreTokenizer") fail_unsupported(pretokenizer, "is BertPreTokenizer for WordPiece");
  settings.clean_text = flag(normalizer, "clean_text", true);
  settings.handle_chinese_chars = flag(normalizer, "handle_chinese_chars", true);
  settings.lowercase = flag(normalizer, "lowercase", true);
  settings.strip_accents = flag(normalizer, "strip_accents", settings.lowercase);
  settings.continuing = model.member("continuing_subword_prefix").string();
  settings.most_characters = model.member("max_input_chars_per_word").integer(1, kMostWordCharacters);
  if (const auto decoder = root.find("decoder")) {
    if (type_of(*decoder) != "WordPiece" || text(*decoder, "prefix") != settings.continuing) {
      fail_unsupported(*decoder, "is WordPiece with the model's continuing_subword_prefix");
    }
    settings.cleanup = flag(*decoder, "cleanup", true);
  }
  const JsonValue unknown = model.member("unk_token");
  const auto id = vocabulary->find(unknown.string());
  if (!id) unknown.fail_here(fmt::format("'{}' is no token", printable(unknown.string())));
  return std::make_unique<WordPiece>(vocabulary, *id, settings);
}

// ---- what goes around a text ----

void read_template(const JsonValue& processor, Tokenizer::Parts& parts) {
  const JsonValue pieces = processor.member("single");
  bool behind_text = false;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const JsonValue piece = pieces.element(i);
    const auto token = piece.find("SpecialToken");
    if (!token) {
      if (behind_text || !piece.find("Sequence")) piece.fail_here("expected one Sequence, and SpecialTokens around it");
      behind_text = true;
      continue;
    }
    const JsonValue ids = processor.member("special_tokens").member(token->member("id").string()).member("ids");
    for (std::size_t j = 0; j < ids.size(); ++j) {
      const auto id = static_cast<TokenId>(ids.element(j).integer(0, kMostId));
      if (!parts.vocabulary->has(id)) ids.fail_here(fmt::format("{} is no token", id));
      (behind_text ? parts.behind : parts.before).push_back(id);
    }
  }
}

void read_post_processor(const JsonValue& root, Tokenizer::Parts& parts) {
  for (const JsonValue& step : steps_of(root.find("post_processor"), "processors")) {
    const std::string type = type_of(step);
    if (type == "ByteLevel") continue;  // only moves offsets
    if (type != "TemplateProcessing" || !parts.before.empty() || !parts.behind.empty()) {
      fail_unsupported(step, "are ByteLevel and one TemplateProcessing");
    }
    read_template(step, parts);
  }
  if (!parts.before.empty()) parts.begin = parts.before.front();
  if (!parts.behind.empty()) parts.end = parts.behind.back();
}

}  // namespace

std::unique_ptr<const Tokenizer> load_tokenizer_json(const std::string& path) {
  const MappedFile file(path);
  return load_tokenizer_json_text(file.text(), path);
}

std::unique_ptr<const Tokenizer> load_tokenizer_json_text(std::string_view text, const std::string& path) {
  const JsonValue root = JsonValue::parse(text, path);
  const JsonValue model = root.member("model");
  const auto added = root.find("added_tokens");
  // Files of older versions leave the type out; only BPE has merges.
  const auto told = model.find("type");
  const std::string type = told ? told->string() : (model.find("merges") ? "BPE" : "WordPiece");
  Tokenizer::Parts parts;
  parts.vocabulary = read_vocabulary(model.member("vocab"), added);
  parts.added = read_added(added, *parts.vocabulary, root.find("normalizer").has_value());
  if (type == "BPE") {
    parts.model = read_bpe(root, model, parts.vocabulary);
  } else if (type == "WordPiece") {
    parts.model = read_word_piece(root, model, parts.vocabulary);
  } else {
    fail_unsupported(model, "are BPE and WordPiece");
  }
  read_post_processor(root, parts);
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace tilewise::io
