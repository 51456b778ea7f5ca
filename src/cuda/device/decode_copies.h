// What decoding reads: tiles of keys and values on their way to a warp, from storage in one piece or from pages.
#pragma once

#include "decode_rows.h"
#include "mma.h"

namespace tilewise::cuda {

/// The copies of a block of Decode: each of its warps has 16 keys of every tile for itself, in kStages places of its
/// own. Tiles are the visits [begin, end) of a walk, a share of them, and are asked for one behind the other.
///
/// Config has what DecodeRows asks for, kStages, and kPagesOfSixteens: pages hold a multiple of 16 tokens.
template <class Config, class Variant>
class DecodeCopies : public DecodeRows<Config, Variant> {
  using Rows = DecodeRows<Config, Variant>;
  using Rows::f_;

 public:
  using Element = typename Config::Element;
  static constexpr int kWarps = 4, kWarpKeys = 16;
  static_assert(Config::kKeys == kWarps * kWarpKeys);
  static constexpr int kColumnsQk = (Config::kHeadQk + 15) / 16 * 16;
  static constexpr int kColumnsV = (Config::kHeadV + 15) / 16 * 16;
  using KeyTile = SharedTile<Element, kWarpKeys, kColumnsQk>;
  using ValueTile = SharedTile<Element, kWarpKeys, kColumnsV>;
  static constexpr int kStageBytes = KeyTile::kBytes + ValueTile::kBytes;
  static constexpr int kInputBytes = kWarps * Config::kStages * kStageBytes;

  struct Share {
    int begin, end;
  };

 protected:
  __device__ DecodeCopies(const DecodeArguments& arguments, const typename Variant::Arguments& variant, unsigned shared)
      : Rows(arguments, variant),
        shared_(shared),
        key_start_(this->shape_.key_start),
        keys_end_(this->shape_.keys),
        keys_(Rows::first_row_of(f_.k)),
        values_(Rows::first_row_of(f_.v)) {}

  __device__ KeyTile key_tile(int stage) const {
    return {shared_ + (Rows::warp() * Config::kStages + stage) * kStageBytes};
  }
  __device__ ValueTile value_tile(int stage) const { return {key_tile(stage).address + KeyTile::kBytes}; }

  /// Of the warp's keys of a tile.
  __device__ static int first_key(const Visit& visit) {
    return visit.tile() * Config::kKeys + Rows::warp() * kWarpKeys;
  }

  /// Ahead of the first copies: asks for what these need to know.
  template <class Walk>
  __device__ void prepare_copies(const Walk& tiles, const Share& share) {
    if constexpr (kKeysShareAPage) next_pages_ = pages_of(tiles, share.begin, share.end);
    if constexpr (kLooksUpKeys) look_up_keys(tiles, share.begin, share.end);
  }

  /// Starts the copies of visit `i`.
  template <class Walk>
  __device__ void start_copies(const Walk& tiles, int i, const Share& share, int stage) {
    const Visit visit = tiles.visit(i);
    const int first = first_key(visit);
    if constexpr (kKeysShareAPage) {
      const int place = (i - share.begin) % 32;
      if (place == 0) pages_ = next_pages_, next_pages_ = pages_of(tiles, i + 32, share.end);
      copy_from_page(visit, first, __shfl_sync(~0u, pages_, place), stage);
    } else if constexpr (Config::kPaged) {
      const int index = first + Rows::lane() % kWarpKeys;
      const int slot = index - number_of_page(index) * f_.pages.page_tokens;  // of the lane's key
      copy_from_pages<Config::kHeadQk>(key_tile(stage), f_.k, keys_, slot);
      copy_from_pages<Config::kHeadV>(value_tile(stage), f_.v, values_, slot);
    } else {
      const bool whole = !visit.is_partial();
      copy_rows<Config::kHeadQk>(key_tile(stage), f_.k, keys_ + first * f_.k.row, first, keys_end_, whole);
      copy_rows<Config::kHeadV>(value_tile(stage), f_.v, values_ + first * f_.v.row, first, keys_end_, whole);
    }
  }

  /// Ahead of start_copies() of visit `i`, by as much as the caller likes: asks for the page of each lane's key.
  template <class Walk>
  __device__ void look_up_keys(const Walk& tiles, int i, int end) {
    if constexpr (kLooksUpKeys) {
      page_ = -1;
      if (i >= end) return;
      const int index = first_key(tiles.visit(i)) + Rows::lane() % kWarpKeys;
      if (index >= key_start_ && index < keys_end_) page_ = page_of(index);
    }
  }

  // In registers: read where they are used, each of a tile's copies waited for them.
  const unsigned shared_;
  const int key_start_, keys_end_;

 private:
  static constexpr int kKeyChunks = KeyTile::kTileColumns / KeyTile::kChunk;
  static constexpr int kValueChunks = ValueTile::kTileColumns / ValueTile::kChunk;
  static constexpr bool kKeysShareAPage =
      Config::kPaged && Config::kPagesOfSixteens && 32 % kKeyChunks == 0 && 32 % kValueChunks == 0;
  static constexpr bool kLooksUpKeys = Config::kPaged && !kKeysShareAPage;

  __device__ int number_of_page(int index) const {
    return f_.pages.shift >= 0 ? index >> f_.pages.shift : index / f_.pages.page_tokens;
  }
  __device__ int page_of(int index) const {
    return __ldg(f_.pages.table + this->sequence_ * f_.pages.sequence + number_of_page(index));
  }

  /// The pages of the warp's keys of 32 visits from `first` on, a lane's each. These are asked for 32 tiles ahead: the
  /// table comes from memory, which is busy, and a tile ahead copies waited for it.
  template <class Walk>
  __device__ int pages_of(const Walk& tiles, int first, int end) const {
    const int visit = first + Rows::lane();
    if (visit >= end) return -1;
    const int index = first_key(tiles.visit(visit));
    return index < keys_end_ ? page_of(index) : -1;
  }

  /// The warp's keys and values of a visit, which lie in one page.
  __device__ void copy_from_page(const Visit& visit, int first, int page, int stage) const {
    const bool is_page = static_cast<unsigned>(page) < static_cast<unsigned>(f_.pages.pages);
    const int slot = first - number_of_page(first) * f_.pages.page_tokens;
    const long long number = is_page ? page : 0;
    const int end = is_page ? keys_end_ : 0;
    const bool whole = is_page && !visit.is_partial();
    copy_rows<Config::kHeadQk>(key_tile(stage), f_.k, keys_ + number * f_.k.batch + slot * f_.k.row, first, end, whole);
    copy_rows<Config::kHeadV>(value_tile(stage), f_.v, values_ + number * f_.v.batch + slot * f_.v.row, first, end,
                              whole);
  }

  /// Rows of k or v one behind the other, the first of which, `data`, is that of key `first`; those of keys in
  /// [key_start_, end) exist. `whole`: all of them do. A lane has the same chunk of every few rows, where a row's
  /// chunks allow it.
  template <int kColumns, class Tile>
  __device__ void copy_rows(const Tile& tile, const TensorView& view, const Element* data, int first, int end,
                            bool whole) const {
    constexpr int kChunks = Tile::kTileColumns / Tile::kChunk, kStep = 32 / kChunks;
    if constexpr (32 % kChunks == 0) {
      const int row = Rows::lane() / kChunks, column = Rows::lane() % kChunks * Tile::kChunk;
      const unsigned to = tile.at(row, column);
      const Element* const from = data + row * view.row + (column < kColumns ? column : 0);
      if (whole) {
#pragma unroll
        for (int step = 0; step < kWarpKeys; step += kStep)
          copy_async(Tile::moved(to, step, 0), from + step * view.row, column < kColumns);
      } else {
#pragma unroll 1
        for (int step = 0; step < kWarpKeys; step += kStep) {
          const int index = first + row + step;
          const bool exists = column < kColumns && index >= key_start_ && index < end;
          copy_async(Tile::moved(to, step, 0), exists ? from + step * view.row : keys_, exists);
        }
      }
    } else {
      Rows::template load<32, kColumns>(tile, view, first, Rows::lane());
    }
  }

  /// The warp's rows of k or v, of the pages that its lanes have looked up. `data`: where a head's rows begin in page
  /// 0.
  template <int kColumns, class Tile>
  __device__ void copy_from_pages(const Tile& tile, const TensorView& view, const Element* data, int slot) const {
    constexpr int kChunks = Tile::kTileColumns / Tile::kChunk;
    const bool is_page = static_cast<unsigned>(page_) < static_cast<unsigned>(f_.pages.pages);
    const long long own = is_page ? page_ * view.batch + slot * view.row : -1;
#pragma unroll
    for (int n = 0; n < kWarpKeys * kChunks / 32; ++n) {
      const int chunk = n * 32 + Rows::lane(), row = chunk / kChunks, column = chunk % kChunks * Tile::kChunk;
      const long long offset = __shfl_sync(~0u, own, row);
      const bool exists = column < kColumns && offset >= 0;
      copy_async(tile.at(row, column), exists ? data + offset + column : data, exists);
    }
  }

  const Element *const keys_, *const values_;  // row 0; of pages, of page 0
  int page_ = -1;                              // of the lane's key in the visit that is copied next
  int pages_ = -1, next_pages_ = -1;           // of 32 visits and of the next 32; -1 where there is no page
};

}  // namespace tilewise::cuda
