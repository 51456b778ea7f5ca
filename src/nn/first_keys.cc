#include <cmath>
#include <vector>

#include "core/fail.h"
#include "nn/parts.h"
#include "nn/transformer.h"

namespace tilewise::nn {

FirstKeys::FirstKeys(std::shared_ptr<const Transformer> model, const KvCache& cache, KvSequence sequence,
                     std::int64_t count)
    : model_(std::move(model)), count_(count) {
  const TransformerShape& s = model_->shape();
  if (!s.is_rotary) {
    fail(ErrorCode::unsupported,
         "keys of a model without rotary embedding do not tell positions by a rotation, so "
         "they cannot be moved");
  }
  if (count < 0 || count > cache.length(sequence))
    fail_argument("{} first tokens of a sequence that has {}", count, cache.length(sequence));
  const auto floats = [&](std::int64_t n) { return std::make_unique<float[]>(static_cast<std::size_t>(n)); };
  k_ = floats(s.layers * s.h_kv * count * s.d_qk);
  v_ = floats(s.layers * s.h_kv * count * s.d_v);
  moved_ = floats(s.h_kv * count * s.d_qk);
  for (std::int64_t layer = 0; layer < s.layers; ++layer) cache.read(sequence, layer, 0, keys(layer), values(layer));
}

Tensor FirstKeys::keys(std::int64_t layer) const {
  const TransformerShape& s = model_->shape();
  return {k_.get() + layer * s.h_kv * count_ * s.d_qk, DType::float32, {s.h_kv, count_, s.d_qk}};
}

Tensor FirstKeys::values(std::int64_t layer) const {
  const TransformerShape& s = model_->shape();
  return {v_.get() + layer * s.h_kv * count_ * s.d_v, DType::float32, {s.h_kv, count_, s.d_v}};
}

void FirstKeys::move(KvCache& cache, KvSequence sequence, std::int64_t distance) {
  const TransformerShape& s = model_->shape();
  Rotary rotary = *model_->parts().rotary;
  rotary.magnitude = 1;  // the keys have it already
  const auto half = static_cast<std::size_t>(rotary.d() / 2);
  std::vector<float> cosines(half), sines(half);
  rotary_angles(rotary, static_cast<double>(distance), cosines.data(), sines.data());
  const Tensor moved(moved_.get(), DType::float32, {s.h_kv, count_, s.d_qk});
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    const Tensor original = keys(layer);
    std::copy_n(static_cast<const float*>(original.data), original.elements(), moved_.get());
    rotate(rotary, cosines.data(), sines.data(), moved_.get(), s.h_kv * count_, s.d_qk);
    cache.write(sequence, layer, 0, moved, values(layer));
  }
}

}  // namespace tilewise::nn
