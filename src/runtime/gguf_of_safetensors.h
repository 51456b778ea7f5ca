// A safetensors model under the names, settings and order of rows that GGUF has for it.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace tilewise::runtime {

/// A tensor of a file, as it goes into a GGUF file.
struct RenamedTensor {
  std::string name;              ///< Of GGUF; empty where the model does not need it.
  const io::FileTensor* tensor;  // views into the file
  std::int64_t pairs_of = 0;     ///< Rows of a head whose halves become pairs of neighbours; 0: rows stay in order.
  bool is_transposed = false;    ///< The file has [inputs, outputs].

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
};

/// Of the families llama (with mistral), qwen2, gpt2, bert. Reads config.json and, where they are, tokenizer.json and
/// tokenizer_config.json beside the file. Throws Error(unsupported) naming the file on others, on settings that GGUF
/// has no key for here, and on tensors of no known name; Error(parse) as io::JsonValue.
GgufForm gguf_form(const io::SafetensorsFile& file);

}  // namespace tilewise::runtime
