#include "tilewise/kv_cache.h"

#include <new>

#include "core/check_tensor.h"
#include "core/fail.h"
#include "kv_cache/cache.h"

namespace tilewise {

KvCache::KvCache(const KvCacheShape& shape) try : cache_(std::make_unique<kv_cache::Cache>(shape)) {
} catch (const std::bad_alloc&) {
  fail(ErrorCode::out_of_memory, "the account of {} pages takes more memory than there is; choose fewer", shape.pages);
}
KvCache::~KvCache() = default;
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;

const KvCacheShape& KvCache::shape() const { return cache_->shape(); }

KvSequence KvCache::start(std::span<const std::int32_t> tokens, std::int64_t domain) {
  return cache_->start(tokens, domain);
}
KvSequence KvCache::fork(KvSequence sequence) { return cache_->fork(sequence); }
void KvCache::append(KvSequence sequence, std::span<const std::int32_t> tokens) { cache_->append(sequence, tokens); }
void KvCache::commit(KvSequence sequence) { cache_->commit(sequence); }
void KvCache::drop_pages(KvSequence sequence, std::int64_t first, std::int64_t count) {
  cache_->drop_pages(sequence, first, count);
}
void KvCache::make_private(KvSequence sequence, std::int64_t first, std::int64_t count) {
  cache_->make_private(sequence, first, count);
}
void KvCache::finish(KvSequence sequence) { cache_->finish(sequence); }
void KvCache::forget() { cache_->forget(); }

std::int64_t KvCache::length(KvSequence sequence) const { return cache_->length(sequence); }
std::span<const std::int32_t> KvCache::block_table(KvSequence sequence) const { return cache_->block_table(sequence); }

void KvCache::fill_block_table(std::span<const KvSequence> sequences, const Tensor& table) const {
  const auto b = static_cast<std::int64_t>(sequences.size());
  if (table.rank != 2 || table.dtype != DType::int32 || table.extents[0] != b) {
    fail_argument("table is {} {}; expected int32 [{}, pages]", to_string(table.dtype), extents_text(table), b);
  }
  check_elements("table", table);
  for (const KvSequence sequence : sequences) {
    const auto pages = static_cast<std::int64_t>(block_table(sequence).size());
    if (pages > table.extents[1]) {
      fail_argument("table {} has too short rows: sequence {} has {} pages", extents_text(table),
                    static_cast<std::int64_t>(sequence), pages);
    }
  }
  auto* numbers = static_cast<std::int32_t*>(table.data);
  for (std::int64_t i = 0; i < b; ++i) {
    const auto pages = block_table(sequences[static_cast<std::size_t>(i)]);
    for (std::int64_t j = 0; j < table.extents[1]; ++j) {
      const bool has = j < static_cast<std::int64_t>(pages.size());
      numbers[i * table.strides[0] + j * table.strides[1]] = has ? pages[static_cast<std::size_t>(j)] : -1;
    }
  }
}

std::int64_t KvCache::pages_needed(KvSequence sequence, std::int64_t tokens) const {
  return cache_->pages_needed(sequence, tokens);
}
std::int64_t KvCache::pages_available() const { return cache_->pages_available(); }
KvCacheAccount KvCache::account() const { return cache_->account(); }

void KvCache::write(KvSequence sequence, std::int64_t layer, std::int64_t first, const ConstTensor& k,
                    const ConstTensor& v) {
  cache_->write(sequence, layer, first, k, v);
}
void KvCache::read(KvSequence sequence, std::int64_t layer, std::int64_t first, const Tensor& k,
                   const Tensor& v) const {
  cache_->read(sequence, layer, first, k, v);
}

ConstTensor KvCache::k(std::int64_t layer) const {
  cache_->expect_layer(layer);
  return cache_->keys().layer(layer);
}
ConstTensor KvCache::v(std::int64_t layer) const {
  cache_->expect_layer(layer);
  return cache_->values().layer(layer);
}
std::optional<ConstTensor> KvCache::k_scales(std::int64_t layer) const {
  cache_->expect_layer(layer);
  if (shape().dtype != DType::int8) return std::nullopt;
  return cache_->keys().scales(layer);
}
std::optional<ConstTensor> KvCache::v_scales(std::int64_t layer) const {
  cache_->expect_layer(layer);
  if (shape().dtype != DType::int8) return std::nullopt;
  return cache_->values().scales(layer);
}

}  // namespace tilewise
