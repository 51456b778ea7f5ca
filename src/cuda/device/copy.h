// Copies between global and shared memory, by a whole block of threads.
#pragma once

#include "arguments.h"
#include "element.h"
#include "shared_tile.h"

namespace tilewise::cuda {

/// Starts a copy of 16 bytes; where `exists` is false it writes zeros and reads nothing.
__device__ inline void copy_async(unsigned to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0) : "memory");
}

/// Likewise of 4 bytes.
__device__ inline void copy_async_4(unsigned to, const void* from, bool exists) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(exists ? 4 : 0) : "memory");
}

/// Closes a group of copies of this thread.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most the `kPending` newest groups of this thread are still under way.
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ inline void store_shared(unsigned to, unsigned value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
__device__ inline void store_shared(unsigned to, unsigned short value) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(value) : "memory");
}
__device__ inline uint4 load_shared_16_bytes(unsigned from) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(from)
               : "memory");
  return value;
}
__device__ inline unsigned short load_shared_2_bytes(unsigned from) {
  unsigned short value;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(value) : "r"(from) : "memory");
  return value;
}

template <class Element>
__device__ inline void store_element(unsigned to, Element value) {
  store_shared(to, value.bits);
}
__device__ inline void store_element(unsigned to, Float32 value) { store_shared(to, __float_as_uint(value.value)); }
template <class Element>
__device__ inline Element load_element(Element, unsigned from) {
  return {load_shared_2_bytes(from)};
}
__device__ inline Float32 load_element(Float32, unsigned from) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(from) : "memory");
  return {value};
}

/// Two neighbouring elements of a row, the first of them an even one.
template <class Element>
__device__ inline void store_pair(unsigned to, Element, float low, float high) {
  store_shared(to, packed(Element{}, low, high));
}
__device__ inline void store_pair(unsigned to, Float32, float low, float high) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(low), "f"(high) : "memory");
}

/// Rows of a global matrix, [.., columns], `stride` elements apart, of which those in [begin, end) exist.
template <class Element>
struct GlobalRows {
  Element* data;  // row 0
  long long stride;
  int begin, end;
};

__device__ constexpr int power_of_two_from(int x) {
  int power = 1;
  while (power < x) power *= 2;
  return power;
}

/// One thread's part in copying tiles of a matrix to shared memory: the same chunk of every kRowStep-th row, so that a
/// tile needs one address and constant steps from it. kColumns elements of each row are in global memory, the rest of
/// the tile's row is padding and becomes zero, as do rows that do not exist. kAligned: rows begin at multiples of 16
/// bytes, so that copies run on their own until wait_for_copies(); otherwise they go element by element through
/// registers.
template <class Tile, int kThreads, int kColumns, bool kAligned, class Element>
class TileLoader {
 public:
  static constexpr int kRows = Tile::kTileRows;
  static constexpr int kChunk = kAligned ? Tile::kChunk : 1;  // elements
  static constexpr int kChunks = Tile::kTileColumns / kChunk;
  static constexpr int kThreadsPerRow = power_of_two_from(kChunks) < kThreads ? power_of_two_from(kChunks) : kThreads;
  static constexpr int kRowStep = kThreads / kThreadsPerRow;

  __device__ explicit TileLoader(const GlobalRows<Element>& rows)
      : row_bytes_(rows.stride * static_cast<long long>(sizeof(Element))),
        from_(reinterpret_cast<const char*>(rows.data + row() * rows.stride + column())) {}

  /// Starts the copy of rows [first, first + kRows), of which those in [begin, end) exist. `whole`: all of them.
  __device__ void start(const Tile& tile, int first, bool whole, int begin, int end) const {
    if constexpr (kAligned) {
      if (column() >= Tile::kTileColumns) return;  // where the chunks of a row are no power of two
      const unsigned to = tile.at(row(), column());
      const char* from = from_ + first * row_bytes_;
      const bool inside = kColumns == Tile::kTileColumns || column() < kColumns;
      if (whole) {
#pragma unroll
        for (int step = 0; step < kRows; step += kRowStep) {
          if (kRows % kRowStep != 0 && row() + step >= kRows) break;
          copy_async(Tile::moved(to, step, 0), inside ? from + step * row_bytes_ : from, inside);
        }
      } else {
#pragma unroll 1
        for (int step = 0; row() + step < kRows; step += kRowStep) {
          const int index = first + row() + step;
          const bool exists = inside && index >= begin && index < end;
          // Where nothing exists the address is still one inside of the tensor.
          copy_async(Tile::moved(to, step, 0), exists ? from + step * row_bytes_ : from_, exists);
        }
      }
    } else {
#pragma unroll 1
      for (int step = 0; row() + step < kRows; step += kRowStep) {
        const int index = first + row() + step;
        for (int i = column(); i < Tile::kTileColumns; i += kThreadsPerRow) {
          const bool exists = index >= begin && index < end && i < kColumns;
          const auto* from = reinterpret_cast<const Element*>(from_ + (first + step) * row_bytes_) + (i - column());
          store_element(tile.at(row() + step, i), exists ? *from : Element{});
        }
      }
    }
  }

 private:
  /// The thread's first row in a tile, and its column.
  __device__ static int row() { return threadIdx.x / kThreadsPerRow; }
  __device__ static int column() { return threadIdx.x % kThreadsPerRow * kChunk; }

  const long long row_bytes_;  // between rows in global memory
  const char* const from_;     // the thread's element in the tile that begins with row 0
};

/// Where the rows of one sequence lie in pages.
struct PagedRows {
  PageTable pages;
  const int* table;     // the sequence's row of it
  long long page, row;  // strides in elements

  /// The offset of a row in elements; false where it lies in a hole.
  __device__ bool find(int index, long long& offset) const {
    const int number = pages.shift >= 0 ? index >> pages.shift : index / pages.page_tokens;
    const int page_number = __ldg(table + number);
    offset = page_number * page + (index - number * pages.page_tokens) * row;
    return static_cast<unsigned>(page_number) < static_cast<unsigned>(pages.pages);
  }
};

/// TileLoader for rows that lie in pages. `data` is where a head's rows begin in page 0.
template <class Tile, int kThreads, int kColumns, bool kAligned, class Element>
class PagedLoader {
 public:
  static constexpr int kChunk = kAligned ? Tile::kChunk : 1;  // elements
  static constexpr int kChunks = Tile::kTileColumns / kChunk;

  __device__ PagedLoader(const Element* data, const PagedRows& rows) : data_(data), rows_(rows) {}

  /// As TileLoader::start; by any kThreads threads, of which this is `thread`.
  __device__ void start(const Tile& tile, int first, bool, int begin, int end) const {
    start(tile, first, begin, end, threadIdx.x);
  }
  __device__ void start(const Tile& tile, int first, int begin, int end, int thread) const {
#pragma unroll 2
    for (int chunk = thread; chunk < Tile::kTileRows * kChunks; chunk += kThreads) {
      const int row = chunk / kChunks, column = chunk % kChunks * kChunk, index = first + row;
      long long offset = 0;
      const bool exists = column < kColumns && index >= begin && index < end && rows_.find(index, offset);
      const Element* from = data_ + (exists ? offset + column : 0);
      if constexpr (kAligned) {
        copy_async(tile.at(row, column), from, exists);
      } else {
        store_element(tile.at(row, column), exists ? *from : Element{});
      }
    }
  }

 private:
  const Element* data_;
  PagedRows rows_;
};

/// Writes rows [first, first + kRows) of a matrix, as far as they exist, from a tile.
template <int kThreads, int kColumns, bool kAligned, class Element, int kRows, int kTileColumns>
__device__ inline void store_tile(const SharedTile<Element, kRows, kTileColumns>& tile, const GlobalRows<Element>& rows,
                                  int first, int thread) {
  constexpr int kWidth = kAligned ? 16 / sizeof(Element) : 1;  // elements that are written at once
  constexpr int kChunks = kColumns / kWidth;
  for (int index = thread; index < kRows * kChunks; index += kThreads) {
    const int row = index / kChunks, column = index % kChunks * kWidth;
    if (first + row < rows.begin || first + row >= rows.end) continue;
    Element* to = rows.data + (first + row) * rows.stride + column;
    if constexpr (kAligned) {
      *reinterpret_cast<uint4*>(to) = load_shared_16_bytes(tile.at(row, column));
    } else {
      *to = load_element(Element{}, tile.at(row, column));
    }
  }
}

}  // namespace tilewise::cuda
