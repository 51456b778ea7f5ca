// What the scheduler needs of a model.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "nn/transformer.h"
#include "tilewise/kv_cache.h"

namespace tilewise::runtime {

/// A sequence's first keys, which can be moved along with the tokens that see them (nn::FirstKeys).
class MovableKeys {
 public:
  virtual ~MovableKeys() = default;
  /// As if each stood `distance` positions later than it does. Their pages must be the sequence's own.
  virtual void move(KvCache& cache, KvSequence sequence, std::int64_t distance) = 0;
};

/// A model that computes steps against a cache.
class StepModel {
 public:
  virtual ~StepModel() = default;

  virtual const nn::TransformerShape& shape() const = 0;
  virtual const Variant& variant() const = 0;

  /// As nn::Decoder::forward().
  virtual void forward(std::span<const nn::Chunk> chunks, KvCache& cache,
                       float* logits) = 0;  // logits [rows asked for, vocabulary]

  /// The first `count` keys of a sequence as they are cached now. Only of rotary models.
  virtual std::unique_ptr<MovableKeys> first_keys(const KvCache& cache, KvSequence sequence, std::int64_t count) = 0;
};

}  // namespace tilewise::runtime
