// One pass over a text: the logits behind each of its tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "runtime/opened_model.h"

namespace tilewise::runtime {

/// Computes texts of at most `most_tokens`, one after the other, in memory of its own.
class TextPass {
 public:
  /// The model must outlive it.
  TextPass(const OpenedModel& model, std::int64_t most_tokens);

  /// Calls visit(first, rows, logits) for consecutive pieces of the text: logits [rows, vocabulary] stand behind tokens
  /// first, first + 1, ...
  using Visit = std::function<void(std::int64_t first, std::int64_t rows, const float* logits)>;
  void run(std::span<const std::int32_t> tokens, const Visit& visit);

 private:
  const OpenedModel* model_;
  KvCache cache_;
  nn::Decoder decoder_;
  std::vector<float> logits_;  // [piece, vocabulary]
};

}  // namespace tilewise::runtime
