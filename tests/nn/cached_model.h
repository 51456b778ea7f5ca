// Small models with a cache and a decoder, for tests to run.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "nn/transformer.h"
#include "tests/nn/small_model.h"

namespace tilewise::nn {

inline SmallModel changed(const std::function<void(SmallModel&)>& change) {
  SmallModel model;
  change(model);
  return model;
}

/// Blocks of 32 need wider matrices.
inline SmallModel wide() {
  SmallModel model;
  model.shape.width = 64;
  model.shape.d_qk = model.shape.d_v = 16;
  model.shape.mlp = 96;
  model.rotated = 16;
  return model;
}

/// A sequence, its cache and its decoder.
struct Cached {
  Cached(std::shared_ptr<const Transformer> its_model, std::int64_t page_tokens,
         Executor& executor = default_executor(), std::optional<Variant> variant = {}, DType dtype = DType::float32)
      : model(std::move(its_model)),
        cache(model->cache_shape(256, dtype, page_tokens)),
        decoder(model, cache.shape(), {.tokens = 64, .chunks = 6, .length = 400}, executor, std::move(variant)) {}

  std::vector<float> step(const std::vector<Chunk>& chunks) {
    for (const Chunk& chunk : chunks) cache.append(chunk.sequence, chunk.tokens);
    return computed(chunks);
  }
  std::vector<float> computed(const std::vector<Chunk>& chunks) {
    std::vector<float> logits(static_cast<std::size_t>(Decoder::logits_rows(chunks) * model->shape().vocabulary),
                              -1.0F);
    decoder.forward(chunks, cache, logits.data());
    return logits;
  }

  std::shared_ptr<const Transformer> model;
  KvCache cache;
  Decoder decoder;
};

}  // namespace tilewise::nn
