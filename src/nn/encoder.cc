// Hidden states of whole sequences, without a cache.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/fail.h"
#include "nn/blocks.h"
#include "nn/transformer.h"
#include "tilewise/attention.h"

namespace tilewise::nn {

class Encoder::State final : public Attend {
 public:
  State(std::shared_ptr<const Transformer> model, const StepLimits& limits, Executor& executor,
        const std::optional<Variant>& variant)
      : model_(std::move(model)),
        limits_(limits),
        plan_(planned(executor, variant ? *variant : model_->variant())),
        workspace_(plan_.workspace_bytes()),
        blocks_(model_->parts(), limits.tokens, executor),
        wanted_(static_cast<std::size_t>(limits.tokens)) {
    std::iota(wanted_.begin(), wanted_.end(), 0);
    inputs_.sequences.reserve(static_cast<std::size_t>(limits.chunks));
  }

  void forward(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths, float* hidden);
  void attend(std::int64_t layer, const AttentionRows& rows) override;

  const Transformer& model() const { return *model_; }
  const StepLimits& limits() const { return limits_; }

 private:
  Plan planned(Executor& executor, const Variant& variant) const;
  void check(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths) const;
  void start(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths);

  std::shared_ptr<const Transformer> model_;
  StepLimits limits_;
  Plan plan_;
  Workspace workspace_;
  Blocks blocks_;
  std::vector<std::int64_t> wanted_;  // [limits.tokens]: every row
  ForwardInputs inputs_;
};

Plan Encoder::State::planned(Executor& executor, const Variant& variant) const {
  const TransformerShape& s = model_->shape();
  const std::int64_t length = std::min(limits_.length, limits_.tokens);
  return Attention(variant).plan({.b = limits_.chunks,
                                  .h_q = s.h_q,
                                  .h_kv = s.h_kv,
                                  .d_qk = s.d_qk,
                                  .d_v = s.d_v,
                                  .s_q = length,
                                  .s_kv = length,
                                  .query_tokens = limits_.tokens,
                                  .key_tokens = limits_.tokens},
                                 Device::cpu(executor));
}

void Encoder::State::check(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths) const {
  const TransformerShape& s = model_->shape();
  if (static_cast<std::int64_t>(lengths.size()) > limits_.chunks)
    fail_argument("{} sequences; expected at most StepLimits::chunks, {}", lengths.size(), limits_.chunks);
  if (static_cast<std::int64_t>(tokens.size()) > limits_.tokens)
    fail_argument("{} tokens in a step; expected at most StepLimits::tokens, {}", tokens.size(), limits_.tokens);
  const std::int64_t longest = std::min({limits_.length, limits_.tokens, s.is_rotary ? limits_.length : s.context});
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] < 1 || lengths[i] > longest) {
      fail_argument("sequence {} has {} tokens; expected 1 to {}, by the model's context and StepLimits::length", i,
                    lengths[i], longest);
    }
    sum += lengths[i];
  }
  if (sum != static_cast<std::int64_t>(tokens.size()))
    fail_argument("{} tokens; expected the sum of the lengths, {}", tokens.size(), sum);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= s.vocabulary)
      fail_argument("token {} is {}; expected [0, {}), the vocabulary", i, tokens[i], s.vocabulary);
  }
}

void Encoder::State::start(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths) {
  inputs_.sequences.clear();
  std::int64_t row = 0;
  for (const std::int64_t length : lengths) {
    inputs_.sequences.push_back({.s_q = length, .s_kv = length, .first_query_token = row, .first_key_token = row});
    for (std::int64_t i = 0; i < length; ++i) blocks_.embed(row + i, tokens[static_cast<std::size_t>(row + i)], i);
    row += length;
  }
}

void Encoder::State::forward(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths,
                             float* hidden) {
  if (lengths.empty() && tokens.empty()) return;
  check(tokens, lengths);
  start(tokens, lengths);
  blocks_.forward(static_cast<std::int64_t>(tokens.size()), std::span(wanted_).first(tokens.size()), *this);
  std::memcpy(hidden, blocks_.hidden(),
              tokens.size() * static_cast<std::size_t>(model_->shape().width) * sizeof(float));
}

void Encoder::State::attend(std::int64_t, const AttentionRows& rows) {
  const TransformerShape& s = model_->shape();
  const auto heads = [&](float* data, std::int64_t h, std::int64_t d) {
    return Tensor(data, DType::float32, std::array{h, rows.tokens, d}, std::array{d, h * d, std::int64_t{1}});
  };
  inputs_.q = heads(rows.q, s.h_q, s.d_qk);
  inputs_.k = heads(rows.k, s.h_kv, s.d_qk);
  inputs_.v = heads(rows.v, s.h_kv, s.d_v);
  plan_.forward(inputs_, {.o = heads(rows.o, s.h_q, s.d_v)}, workspace_);
}

Encoder::Encoder(std::shared_ptr<const Transformer> model, const StepLimits& limits, Executor& executor,
                 std::optional<Variant> variant) {
  if (model == nullptr) fail_argument("model is null; expected a transformer");
  if (!model->shape().is_encoder) {
    fail(ErrorCode::unsupported,
         "the model is a decoder, in which no token sees later ones; expected an encoder, such "
         "as BERT");
  }
  if (limits.tokens < 1 || limits.chunks < 1 || limits.length < 1) {
    fail_argument("limits of {} tokens, {} sequences, length {}; expected at least 1 each", limits.tokens,
                  limits.chunks, limits.length);
  }
  state_ = std::make_unique<State>(std::move(model), limits, executor, variant);
}
Encoder::~Encoder() = default;
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;

void Encoder::forward(std::span<const std::int32_t> tokens, std::span<const std::int64_t> lengths, float* hidden) {
  state_->forward(tokens, lengths, hidden);
}

const Transformer& Encoder::model() const { return state_->model(); }
const StepLimits& Encoder::limits() const { return state_->limits(); }

}  // namespace tilewise::nn
