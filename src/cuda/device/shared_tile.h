// Tiles in shared memory.
#pragma once

namespace tilewise::cuda {

/// A tile of `kRows` rows of `kColumns` elements in shared memory, at an address that is a multiple of 128.
///
/// A row takes whole lines of 128 bytes. Within a line, the place of a chunk of 16 bytes is exclusive-ored with bits of
/// the row, so that what one phase of a load reads lies in different groups of banks: of 16-bit elements eight rows'
/// chunks, by ldmatrix; of float32 two neighbouring chunks of the four rows 0 to 3 or 4 to 7, or of the four even or
/// the four odd ones of eight. (Rows that are 16 bytes longer than their elements would do that too, but then a copy of
/// a line falls into two lines: the second-level cache delivered half as much again.)
template <class ElementType, int kRows, int kColumns>
struct SharedTile {
  using Element = ElementType;
  static constexpr int kElementBytes = sizeof(Element);
  static_assert(kColumns % 16 == 0 && (kElementBytes == 2 || kElementBytes == 4));
  static constexpr int kTileRows = kRows, kTileColumns = kColumns;
  static constexpr int kChunk = 16 / kElementBytes, kLine = 128 / kElementBytes;  // elements
  static constexpr int kRowBytes = (kColumns + kLine - 1) / kLine * 128;
  static constexpr int kBytes = kRows * kRowBytes;

  unsigned address;  // in the shared window

  __device__ unsigned at(int row, int column) const {
    return address + row * kRowBytes + column / kLine * 128 + ((column / kChunk ^ turned(row)) & 7) * 16 +
           column % kChunk * kElementBytes;
  }

  /// From the address of (r, c) to that of (r + rows, c + columns), where neither sum carries into the bits of the
  /// other term: r < rows' lowest bit, or rows is a multiple of 8, and likewise for c, in chunks.
  __device__ static unsigned moved(unsigned from, int rows, int columns) {
    return (from ^ ((columns / kChunk ^ turned(rows)) & 7) * 16) + rows * kRowBytes + columns / kLine * 128;
  }

 private:
  /// What a row's chunks are exclusive-ored with: linear in the row's bits.
  __device__ static int turned(int row) {
    return kElementBytes == 2 ? row : (row & 2) * 2 + ((row ^ row >> 2) & 1) * 2;
  }
};

}  // namespace tilewise::cuda
