// Sequences over the pool of pages: what tilewise/kv_cache.h promises.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kv_cache/page_memory.h"
#include "kv_cache/page_pool.h"
#include "tilewise/kv_cache.h"

namespace tilewise::kv_cache {

class Cache {
 public:
  explicit Cache(const KvCacheShape& shape);

  KvSequence start(std::span<const std::int32_t> tokens, std::int64_t domain);
  KvSequence fork(KvSequence sequence);
  void append(KvSequence sequence, std::span<const std::int32_t> tokens);
  void commit(KvSequence sequence);
  void drop_pages(KvSequence sequence, std::int64_t first, std::int64_t count);
  void make_private(KvSequence sequence, std::int64_t first, std::int64_t count);
  void finish(KvSequence sequence);
  void forget() { pool_.forget(); }

  std::int64_t length(KvSequence sequence) const { return at(sequence).length; }
  std::span<const std::int32_t> block_table(KvSequence sequence) const { return at(sequence).pages; }
  std::int64_t pages_needed(KvSequence sequence, std::int64_t tokens) const;
  std::int64_t pages_available() const { return pool_.available(); }
  KvCacheAccount account() const;

  void write(KvSequence sequence, std::int64_t layer, std::int64_t first, const ConstTensor& k, const ConstTensor& v);
  void read(KvSequence sequence, std::int64_t layer, std::int64_t first, const Tensor& k, const Tensor& v) const;

  const KvCacheShape& shape() const { return shape_; }
  const PageMemory& keys() const { return keys_; }
  const PageMemory& values() const { return values_; }

  /// Throws unless 0 <= layer < layers.
  void expect_layer(std::int64_t layer) const;

 private:
  struct State {
    std::int64_t length = 0;            // tokens
    std::vector<std::int32_t> pages{};  // the block table; -1: a hole
    // For reuse: what the first `committed` pages hold, and the tokens behind them. Kept only while the sequence is
    // `offered`, so that one whose pages are dropped as it goes takes no more memory with every token.
    bool offered = true;
    std::int64_t committed = 0;
    PrefixIndex::Content content = 0;
    std::vector<std::int32_t> tokens{};
  };

  State& at(KvSequence sequence);
  const State& at(KvSequence sequence) const;
  KvSequence add(State state);
  void expect_pages(const State& state, std::int64_t first, std::int64_t count) const;
  void expect_rows(const State& state, std::int64_t layer, std::int64_t first, const ConstTensor& k,
                   const ConstTensor& v) const;
  /// One behind the last page of tokens [first, first + count), in the block table.
  std::int64_t page_end(std::int64_t first, std::int64_t count) const;
  void expect_available(KvSequence sequence, std::int64_t needed) const;
  bool others_have(std::int32_t page) const { return pool_.owners(page) > 1 || pool_.is_indexed(page); }
  bool last_page_has_room(const State& state) const { return state.length % shape_.page_tokens != 0; }
  void replace_by_copy(std::int32_t& page);

  KvCacheShape shape_;
  PageMemory keys_, values_;
  PagePool pool_;
  std::unordered_map<std::int64_t, State> sequences_;
  std::int64_t next_sequence_ = 0;
  std::int64_t reused_tokens_ = 0, started_tokens_ = 0;
};

}  // namespace tilewise::kv_cache
