// The key/value cache: pages of a fixed number of tokens that sequences share, and attention reads in place.
//
//   KvCache cache({.layers = 30, .h_kv = 3, .d_qk = 64, .d_v = 64, .pages = 1024, .dtype = DType::bfloat16});
//   KvSequence sequence = cache.start(prompt);            // what is cached of the prompt's beginning is there already
//   const std::int64_t reused = cache.length(sequence);   // so the model computes tokens from here on
//   cache.append(sequence, rest);                         // room for them, or an error and no change
//   cache.write(sequence, layer, reused, k, v);           // each layer
//   cache.commit(sequence);                               // full pages may now serve others
//   plan.forward({.q = q, .k = cache.k(layer), .v = cache.v(layer), .block_table = table, ...}, ...);
//   cache.finish(sequence);
//
// Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention" (2023); reuse of
// prefixes by content follows Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs" (2024).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "tilewise/tensor.h"

namespace tilewise {

/// What a cache holds, fixed when it is made.
struct KvCacheShape {
  std::int64_t layers = 1;
  std::int64_t h_kv = 1;
  std::int64_t d_qk = 64;
  std::int64_t d_v = 64;
  std::int64_t page_tokens = 16;  ///< Tokens of a page.
  std::int64_t pages = 1;         ///< 1 to 2^31 - 1. Memory that no page has used yet is not taken from the system.
  DType dtype = DType::float32;   ///< float32, bfloat16, float16, or int8 with a scale for each head and token.
};

/// A sequence in a cache: a handle, never used again once it is finished.
enum class KvSequence : std::int64_t {};

/// Where every byte is. total = used + wasted + reusable + free, exactly; pages likewise (used and wasted lie in live
/// ones). A byte that several sequences share counts once.
struct KvCacheAccount {
  std::int64_t pages = 0;
  std::int64_t live_pages = 0;      ///< In some sequence's block table.
  std::int64_t shared_pages = 0;    ///< Of those, in more than one.
  std::int64_t reusable_pages = 0;  ///< In none, kept for their content until their room is needed.
  std::int64_t free_pages = 0;

  std::int64_t total_bytes = 0;
  std::int64_t used_bytes = 0;    ///< Of tokens in live pages.
  std::int64_t wasted_bytes = 0;  ///< Of slots in live pages that no token has.
  std::int64_t reusable_bytes = 0;
  std::int64_t free_bytes = 0;

  std::int64_t shared_bytes = 0;    ///< Of used_bytes, those in shared pages.
  std::int64_t saved_bytes = 0;     ///< What the sequences would take more if each had its own pages.
  std::int64_t reused_tokens = 0;   ///< Since the cache was made: tokens that start() found.
  std::int64_t started_tokens = 0;  ///< Likewise: tokens that start() was asked for.
  std::int64_t evicted_pages = 0;   ///< Likewise: reusable pages whose room was needed.
};

namespace kv_cache {
class Cache;
}

/// Pages and who has them. For one thread at a time; reading k(), v() and block tables may go on in many meanwhile, and
/// so may calls of write() for other tokens or sequences.
///
/// Every call checks its arguments before any work and throws Error(invalid_argument) on a sequence that is finished or
/// of another cache, and on positions outside of it.
class KvCache {
 public:
  /// Throws Error(invalid_argument) naming what of the shape makes no sense, Error(out_of_memory) with the bytes.
  explicit KvCache(const KvCacheShape& shape);
  ~KvCache();
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;

  const KvCacheShape& shape() const;

  // ---- sequences ----

  /// A new sequence. It begins with the longest run of full pages whose tokens are the beginning of `tokens` and whose
  /// content is in the cache, from live or finished sequences of the same domain; at least the last token is left out,
  /// since someone wants its logits. length() tells how many tokens that is. Takes no page that was free.
  ///
  /// A domain (0 or more) keeps apart what must not be shared: another model, variant, adapter or tenant.
  KvSequence start(std::span<const std::int32_t> tokens = {}, std::int64_t domain = 0);

  /// A copy that shares all pages. Whichever first appends to a page that both have gets a copy of it.
  KvSequence fork(KvSequence sequence);

  /// Makes room behind the last token; k and v there are undefined until written. A last page that others share is
  /// copied first. Throws Error(out_of_memory) where too few pages are free or reusable; then nothing has changed.
  void append(KvSequence sequence, std::span<const std::int32_t> tokens);

  /// Offers the sequence's full pages for reuse by content. To be called once all layers of all tokens are written.
  void commit(KvSequence sequence);

  /// Gives up pages [first, first + count) of the block table, which then has -1 there: for a variant under which no
  /// later query sees them. The last page stays while it has room. Holes may be given up again.
  void drop_pages(KvSequence sequence, std::int64_t first, std::int64_t count);

  /// Copies those of pages [first, first + count) that anyone else has or may find, so that they can be rewritten. The
  /// sequence's pages are not offered for reuse from then on. Throws Error(out_of_memory) as append().
  void make_private(KvSequence sequence, std::int64_t first, std::int64_t count);

  /// Gives up the sequence. Pages that were committed stay for reuse until their room is needed, least recently used
  /// first; among those given up together, the later ones of the sequence first.
  void finish(KvSequence sequence);

  /// Forgets all that is kept for reuse.
  void forget();

  std::int64_t length(KvSequence sequence) const;  ///< In tokens.

  /// The page of each page_tokens tokens, -1 for those given up; valid until the sequence is next changed.
  std::span<const std::int32_t> block_table(KvSequence sequence) const;  // [pages of the sequence]

  /// Fills a batch's block table, int32, with -1 behind each sequence's last page. Throws where a row is too short.
  void fill_block_table(std::span<const KvSequence> sequences, const Tensor& table) const;  // table [b, pages]

  /// Pages that append() of that many tokens would take, and pages that can be had: free and reusable.
  std::int64_t pages_needed(KvSequence sequence, std::int64_t tokens) const;
  std::int64_t pages_available() const;

  KvCacheAccount account() const;

  // ---- contents ----

  /// Stores tokens [first, first + n) of a layer. k and v have any floating dtype; they are rounded to nearest, int8 by
  /// scale = largest magnitude of the row / 127. A row with an infinity or NaN gets the scale NaN: all of it reads as
  /// NaN. Throws Error(invalid_argument) where a page is a hole, shared, or offered for reuse (see make_private()).
  void write(KvSequence sequence, std::int64_t layer, std::int64_t first,  //
             const ConstTensor& k,                                         // [h_kv, n, d_qk]
             const ConstTensor& v);                                        // [h_kv, n, d_v]

  /// Reads them back into tensors of any floating dtype. Throws likewise on holes.
  void read(KvSequence sequence, std::int64_t layer, std::int64_t first,  //
            const Tensor& k,                                              // [h_kv, n, d_qk]
            const Tensor& v) const;                                       // [h_kv, n, d_v]

  /// All pages of a layer, as attention takes them (tilewise/arguments.h).
  ConstTensor k(std::int64_t layer) const;  // [pages, h_kv, page_tokens, d_qk]
  ConstTensor v(std::int64_t layer) const;  // [pages, h_kv, page_tokens, d_v]

  /// Of int8 pages, else nullopt.
  std::optional<ConstTensor> k_scales(std::int64_t layer) const;  // [pages, h_kv, page_tokens], float32
  std::optional<ConstTensor> v_scales(std::int64_t layer) const;  // [pages, h_kv, page_tokens], float32

 private:
  std::unique_ptr<kv_cache::Cache> cache_;
};

}  // namespace tilewise
