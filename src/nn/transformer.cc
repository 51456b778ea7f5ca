#include "nn/transformer.h"

#include <string_view>

#include "core/fail.h"
#include "nn/parts.h"

namespace tilewise::nn {
namespace {

class Checks {
 public:
  explicit Checks(const Transformer::Parts& parts) : parts_(parts), shape_(parts.shape) {}

  void run() const {
    check_sizes();
    matrix("embedding", parts_.embedding, shape_.vocabulary, shape_.width);
    vector("added", parts_.added, shape_.width);
    if (parts_.positions.rows() > 0) matrix("positions", parts_.positions, shape_.context, shape_.width);
    if (parts_.embedding_norm) norm("embedding_norm", *parts_.embedding_norm);
    if (parts_.last_norm) norm("last_norm", *parts_.last_norm);
    if (!shape_.is_encoder) matrix("logits", parts_.logits, shape_.vocabulary, shape_.width);
    for (const BlockPart& block : parts_.blocks) check_block(block);
  }

 private:
  void check_sizes() const {
    const TransformerShape& s = shape_;
    if (s.layers < 1 || s.width < 1 || s.h_kv < 1 || s.d_qk < 1 || s.d_v < 1 || s.mlp < 1 || s.vocabulary < 1 ||
        s.context < 1 || s.h_q < 1 || s.h_q % s.h_kv != 0) {
      fail_argument(
          "a transformer of {} layers, width {}, h_q {}, h_kv {}, d_qk {}, d_v {}, MLP {}, vocabulary {}, context {}; "
          "expected positive sizes, and h_q a multiple of h_kv",
          s.layers, s.width, s.h_q, s.h_kv, s.d_qk, s.d_v, s.mlp, s.vocabulary, s.context);
    }
    if (static_cast<std::int64_t>(parts_.blocks.size()) != s.layers)
      fail_argument("{} blocks; expected as many as layers, {}", parts_.blocks.size(), s.layers);
    if (s.is_rotary != parts_.rotary.has_value()) fail_argument("is_rotary and the rotary embedding contradict");
    if (parts_.rotary && parts_.rotary->d() > s.d_qk)
      fail_argument("{} rotated elements of a head; expected at most d_qk, {}", parts_.rotary->d(), s.d_qk);
  }

  void check_block(const BlockPart& block) const {
    norm("attention_norm", block.attention_norm);
    projection("q", block.attention.q, shape_.h_q * shape_.d_qk, shape_.width);
    projection("k", block.attention.k, shape_.h_kv * shape_.d_qk, shape_.width);
    projection("v", block.attention.v, shape_.h_kv * shape_.d_v, shape_.width);
    projection("out", block.attention.out, shape_.width, shape_.h_q * shape_.d_v);
    norm("mlp_norm", block.mlp_norm);
    if (block.mlp.is_gated()) projection("gate", block.mlp.gate, shape_.mlp, shape_.width);
    projection("up", block.mlp.up, shape_.mlp, shape_.width);
    projection("down", block.mlp.down, shape_.width, shape_.mlp);
  }

  void norm(std::string_view name, const Norm& norm) const {
    if (norm.weight.empty()) fail_argument("{} has no weight", name);
    vector(name, norm.weight, shape_.width);
    vector(name, norm.bias, shape_.width);
  }
  static void projection(std::string_view name, const Projection& projection, std::int64_t rows, std::int64_t columns) {
    matrix(name, projection.weights, rows, columns);
    vector(name, projection.bias, rows);
  }
  static void matrix(std::string_view name, const Linear& matrix, std::int64_t rows, std::int64_t columns) {
    if (matrix.rows() == rows && matrix.columns() == columns) return;
    fail_argument("{} is [{}, {}]; expected [{}, {}]", name, matrix.rows(), matrix.columns(), rows, columns);
  }
  static void vector(std::string_view name, const std::vector<float>& vector, std::int64_t count) {
    if (vector.empty() || static_cast<std::int64_t>(vector.size()) == count) return;
    fail_argument("{} has {} elements; expected {}", name, vector.size(), count);
  }

  const Transformer::Parts& parts_;
  const TransformerShape& shape_;
};

}  // namespace

Transformer::Transformer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) { Checks(*parts_).run(); }
Transformer::~Transformer() = default;

const TransformerShape& Transformer::shape() const { return parts_->shape; }
const Variant& Transformer::variant() const { return parts_->variant; }

KvCacheShape Transformer::cache_shape(std::int64_t pages, DType dtype, std::int64_t page_tokens) const {
  const TransformerShape& s = shape();
  return {.layers = s.layers,
          .h_kv = s.h_kv,
          .d_qk = s.d_qk,
          .d_v = s.d_v,
          .page_tokens = page_tokens,
          .pages = pages,
          .dtype = dtype};
}

std::int64_t Transformer::bytes_of_a_token() const {
  std::int64_t bytes = parts_->logits.bytes();
  for (const BlockPart& block : parts_->blocks) {
    for (const Projection* projection : {&block.attention.q, &block.attention.k, &block.attention.v,
                                         &block.attention.out, &block.mlp.gate, &block.mlp.up, &block.mlp.down}) {
      bytes += projection->weights.bytes();
    }
  }
  return bytes;
}

}  // namespace tilewise::nn
