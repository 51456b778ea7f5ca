// A safetensors model under the names, settings and order of rows that GGUF has for it.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"
#include "runtime/model_source.h"

namespace tilewise::runtime {

/// A tensor of a file, as it goes into a GGUF file.
struct RenamedTensor {
  std::string name;              ///< Of GGUF; empty where the model does not need it.
  const io::FileTensor* tensor;  // views into the file
  std::int64_t pairs_of = 0;     ///< Rows of a head whose halves become pairs of neighbours; 0: rows stay in order.
  bool is_transposed = false;    ///< The file has [inputs, outputs].
  bool is_made = false;          ///< Of settings: the file has no such tensor.

  std::vector<std::int64_t> shape() const;

  /// Row `row` of the renamed tensor as float32.
  void read_row(std::int64_t row, float* out) const;  // out [columns]
};

/// Settings with what they refer to.
class OwnedMetadata {
 public:
  void add(std::string_view key, io::GgufValue value) { metadata_.emplace_back(kept(key), value); }
  void add_text(std::string_view key, std::string_view text) { add(key, io::GgufValue::of_string(kept(text))); }
  const io::GgufMetadata& get() const { return metadata_; }

 private:
  std::string_view kept(std::string_view text) { return texts_.emplace_back(text); }

  std::deque<std::string> texts_;  // a deque, so that what metadata_ refers to never moves
  io::GgufMetadata metadata_;
};

struct GgufForm {
  OwnedMetadata metadata;
  std::vector<RenamedTensor> tensors;

  /// Adds a tensor that the file does not have.
  void add_vector(std::string name, std::vector<float> values);

 private:
  struct Made {
    std::vector<float> values;
    io::FileTensor tensor;  // a view of them
  };
  std::deque<Made> made_;  // a deque, so that what `tensors` refers to never moves
};

/// Adds what GGUF has for the scaling of rotary embedding under config.json: keys behind
/// "<architecture>.rope.scaling.", and factors as tensors. Throws as rotary_scaling_of().
void add_rotary_scaling(const ModelSource& source, const std::string& architecture, GgufForm& form);

/// Of the families llama (with mistral), qwen2, gpt2, bert. Reads config.json and, where they are, tokenizer.json and
/// the chat template beside the file. Throws Error(unsupported) naming the file on others, on settings that GGUF
/// has no key for here, and on tensors of no known name; Error(parse) as io::JsonValue.
GgufForm gguf_form(const ModelSource& source);

}  // namespace tilewise::runtime
