#include "runtime/gguf_of_safetensors.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "core/fail.h"
#include "io/cursor.h"
#include "io/dequantize.h"
#include "io/mapped_file.h"
#include "io/tokenizer/tokenizer.h"
#include "runtime/chat_template.h"
#include "runtime/families/family.h"

namespace tilewise::runtime {
namespace {

struct Rename {
  std::string_view from, to;
};

constexpr Rename kLlama[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"},       {"lm_head", "output"},
    {"input_layernorm", "attn_norm"},     {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},       {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},        {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"}};
constexpr Rename kGpt2[] = {{"wte", "token_embd"},     {"wpe", "position_embd"},       {"ln_f", "output_norm"},
                            {"lm_head", "output"},     {"ln_1", "attn_norm"},          {"attn.c_attn", "attn_qkv"},
                            {"ln_2", "ffn_norm"},      {"attn.c_proj", "attn_output"}, {"mlp.c_fc", "ffn_up"},
                            {"mlp.c_proj", "ffn_down"}};
constexpr Rename kBert[] = {{"embeddings.word_embeddings", "token_embd"},
                            {"embeddings.position_embeddings", "position_embd"},
                            {"embeddings.token_type_embeddings", "token_types"},
                            {"embeddings.LayerNorm", "token_embd_norm"},
                            {"attention.self.query", "attn_q"},
                            {"attention.self.key", "attn_k"},
                            {"attention.self.value", "attn_v"},
                            {"attention.output.dense", "attn_output"},
                            {"attention.output.LayerNorm", "attn_output_norm"},
                            {"intermediate.dense", "ffn_up"},
                            {"output.dense", "ffn_down"},
                            {"output.LayerNorm", "layer_output_norm"}};
// What models run without: tables of positions and masks, and heads of training.
constexpr std::string_view kUnneeded[] = {"position_ids",        "pooler.dense.weight", "pooler.dense.bias",
                                          "rotary_emb.inv_freq", "attn.bias",           "attn.masked_bias"};

enum class Number : std::uint8_t { integer, real };

/// A setting of config.json and GGUF's key for it, behind the architecture's name.
struct Setting {
  std::string_view key;
  const char* name;
  Number number = Number::integer;
  bool may_be_missing = false;
};

constexpr Setting kLlamaSettings[] = {{"block_count", "num_hidden_layers"},
                                      {"context_length", "max_position_embeddings"},
                                      {"embedding_length", "hidden_size"},
                                      {"feed_forward_length", "intermediate_size"},
                                      {"attention.head_count", "num_attention_heads"},
                                      {"attention.head_count_kv", "num_key_value_heads", Number::integer, true},
                                      {"attention.key_length", "head_dim", Number::integer, true},
                                      {"attention.value_length", "head_dim", Number::integer, true},
                                      {"attention.sliding_window", "sliding_window", Number::integer, true},
                                      {"attention.layer_norm_rms_epsilon", "rms_norm_eps", Number::real},
                                      {"rope.freq_base", "rope_theta", Number::real, true}};
constexpr Setting kGpt2Settings[] = {
    {"block_count", "n_layer"},         {"context_length", "n_positions"},
    {"embedding_length", "n_embd"},     {"feed_forward_length", "n_inner", Number::integer, true},
    {"attention.head_count", "n_head"}, {"attention.layer_norm_epsilon", "layer_norm_epsilon", Number::real, true}};
constexpr Setting kBertSettings[] = {{"block_count", "num_hidden_layers"},
                                     {"context_length", "max_position_embeddings"},
                                     {"embedding_length", "hidden_size"},
                                     {"feed_forward_length", "intermediate_size"},
                                     {"attention.head_count", "num_attention_heads"},
                                     {"attention.layer_norm_epsilon", "layer_norm_eps", Number::real, true}};

struct Conversion {
  std::string_view model_type, architecture;
  std::string_view block;  // before a block's number
  std::span<const Rename> names;
  std::span<const Setting> settings;
  bool is_rotary = false;
  bool pairs_neighbours = false;                 // q's and k's rows
  bool transposes = false;                       // of blocks' matrices
  std::string_view activation_name, activation;  // the one that GGUF's architecture implies
};

constexpr std::array<Conversion, 5> kConversions = {{
    {"llama", "llama", "model.layers.", kLlama, kLlamaSettings, true, true, false, "hidden_act", "silu"},
    {"mistral", "llama", "model.layers.", kLlama, kLlamaSettings, true, true, false, "hidden_act", "silu"},
    {"qwen2", "qwen2", "model.layers.", kLlama, kLlamaSettings, true, false, false, "hidden_act", "silu"},
    {"gpt2", "gpt2", "h.", kGpt2, kGpt2Settings, false, false, true, "activation_function", "gelu_new"},
    {"bert", "bert", "encoder.layer.", kBert, kBertSettings, false, false, false, "hidden_act", "gelu"},
}};

constexpr std::int64_t kMostNumber = std::int64_t{1} << 31;

const Conversion& conversion_of(const io::JsonValue& config) {
  const std::string type = config.member("model_type").string();
  std::string known;
  for (const Conversion& conversion : kConversions) {
    if (conversion.model_type == type) return conversion;
    known += (known.empty() ? "" : ", ") + std::string(conversion.model_type);
  }
  fail(ErrorCode::unsupported, "{}: model_type '{}' cannot be written as GGUF here; {} can", config.path(),
       io::printable(type), known);
}

/// The setting of config.json, wherever it stands.
std::optional<io::JsonValue> find_setting(const io::JsonValue& config, const std::string& name) {
  const auto value = config.find(name);
  if (value || name != "rope_theta") return value;
  const auto rotary = rotary_object(config);
  return rotary ? rotary->find(name) : std::nullopt;
}

/// Refuses what the written file could not say.
void expect_expressible(const io::JsonValue& config, const Conversion& conversion) {
  const auto refuse = [&](const std::string& what) { fail(ErrorCode::unsupported, "{}: {}", config.path(), what); };
  const auto activation = config.find(std::string(conversion.activation_name));
  if (activation && activation->string() != conversion.activation) {
    refuse(fmt::format("{} is '{}'; GGUF's {} implies {}", conversion.activation_name,
                       io::printable(activation->string()), conversion.architecture, conversion.activation));
  }
  const auto windows = config.find("use_sliding_window");
  if (windows && windows->boolean()) refuse("use_sliding_window cannot be written as GGUF here");
}

void add_settings(const io::JsonValue& config, const Conversion& conversion, OwnedMetadata& metadata) {
  metadata.add_text("general.architecture", conversion.architecture);
  const bool no_windows = config.find("use_sliding_window").has_value();  // there, and false: see expect_expressible()
  for (const Setting& setting : conversion.settings) {
    if (no_windows && setting.key == "attention.sliding_window") continue;
    const auto value = find_setting(config, setting.name);
    if (!value && setting.may_be_missing) continue;
    const std::string key = fmt::format("{}.{}", conversion.architecture, setting.key);
    const io::JsonValue given = value ? *value : config.member(setting.name);  // which names what is missing
    if (setting.number == Number::real) {
      metadata.add(key, io::GgufValue::of_float32(static_cast<float>(given.real())));
    } else {
      metadata.add(key, io::GgufValue::of_uint32(static_cast<std::uint32_t>(given.integer(0, kMostNumber))));
    }
  }
}

/// The tokenizer as its own file has it, and what conversations look like.
void add_tokenizer(const std::filesystem::path& folder, const io::JsonValue& config, OwnedMetadata& metadata) {
  const auto tokenizer = folder / "tokenizer.json";
  if (std::filesystem::exists(tokenizer)) {
    metadata.add_text(io::kTokenizerJsonKey, io::MappedFile(tokenizer.string()).text());
  }
  if (const auto chat = chat_template_in(folder)) metadata.add_text("tokenizer.chat_template", *chat);
  const auto end = config.find("eos_token_id");
  if (end && !end->is_array()) {
    metadata.add("tokenizer.ggml.eot_token_id",
                 io::GgufValue::of_uint32(static_cast<std::uint32_t>(end->integer(0, kMostNumber))));
  }
}

std::optional<std::string> gguf_name(std::string_view name, const Conversion& conversion) {
  for (const std::string_view prefix : {"bert.", "transformer."}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  std::string block;
  if (name.starts_with(conversion.block)) {
    name.remove_prefix(conversion.block.size());
    const std::size_t end = name.find_first_not_of("0123456789");
    if (end == 0 || end == std::string_view::npos || name[end] != '.') return std::nullopt;
    block = fmt::format("blk.{}.", name.substr(0, end));
    name.remove_prefix(end + 1);
  }
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  for (const Rename& rename : conversion.names) {
    if (name.substr(0, dot) == rename.from) return fmt::format("{}{}{}", block, rename.to, name.substr(dot));
  }
  return std::nullopt;
}

RenamedTensor renamed(const ModelSource& file, const io::FileTensor& tensor, const io::JsonValue& config,
                      const Conversion& conversion) {
  const auto is_end = [&](std::string_view end) { return tensor.name.ends_with(end); };
  const auto name = gguf_name(tensor.name, conversion);
  if (!name) {
    if (std::ranges::any_of(kUnneeded, is_end)) return {"", &tensor};
    fail(ErrorCode::unsupported, "{}: tensor '{}' has no name in GGUF's {}", file.path(), io::printable(tensor.name),
         conversion.architecture);
  }
  RenamedTensor result{*name, &tensor};
  const bool in_block = name->starts_with("blk.") && tensor.shape.size() == 2;
  result.is_transposed = conversion.transposes && in_block;
  if (conversion.pairs_neighbours &&
      (name->find("attn_q.") != std::string::npos || name->find("attn_k.") != std::string::npos)) {
    const std::int64_t heads = config.member("num_attention_heads").integer(1, kMostNumber);
    const auto given = config.find("head_dim");
    result.pairs_of =
        given ? given->integer(1, kMostNumber) : config.member("hidden_size").integer(1, kMostNumber) / heads;
    if (result.pairs_of < 2 || result.pairs_of % 2 != 0 || result.shape().front() % result.pairs_of != 0) {
      fail(ErrorCode::parse, "{}: tensor '{}' has {} rows; expected heads of {}, an even number", file.path(),
           io::printable(tensor.name), result.shape().front(), result.pairs_of);
    }
  }
  return result;
}

}  // namespace

std::vector<std::int64_t> RenamedTensor::shape() const {
  std::vector<std::int64_t> shape = tensor->shape;
  if (is_transposed) std::reverse(shape.begin(), shape.end());
  return shape;
}

void RenamedTensor::read_row(std::int64_t row, float* out) const {
  if (is_transposed) {
    // A column of what is stored. Slow for one row of many; the files are small (GPT-2's).
    const auto stored = static_cast<std::size_t>(info(tensor->storage).block_bytes);
    for (std::int64_t i = 0; i < tensor->rows(); ++i) {
      const auto element = static_cast<std::size_t>(i * tensor->columns() + row);
      io::dequantize(tensor->storage, tensor->bytes.data() + element * stored, 1, out + i);
    }
    return;
  }
  if (pairs_of > 0) {
    const std::int64_t head = row / pairs_of, place = row % pairs_of;
    row = head * pairs_of + place % 2 * (pairs_of / 2) + place / 2;
  }
  io::read_rows(*tensor, row, 1, out);
}

void GgufForm::add_vector(std::string name, std::vector<float> values) {
  Made& made = made_.emplace_back(Made{std::move(values), {}});
  made.tensor.shape = {static_cast<std::int64_t>(made.values.size())};
  made.tensor.bytes = std::as_bytes(std::span(made.values));
  tensors.push_back({std::move(name), &made.tensor, 0, false, true});
}

GgufForm gguf_form(const ModelSource& source) {
  const io::JsonValue& config = source.config();
  const Conversion& conversion = conversion_of(config);
  expect_expressible(config, conversion);
  GgufForm form;
  add_settings(config, conversion, form.metadata);
  add_tokenizer(source.folder(), config, form.metadata);
  for (const io::FileTensor& tensor : source.tensors()) {
    form.tensors.push_back(renamed(source, tensor, config, conversion));
  }
  if (conversion.is_rotary) add_rotary_scaling(source, std::string(conversion.architecture), form);
  return form;
}

}  // namespace tilewise::runtime
