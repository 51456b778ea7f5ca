// Tiles in shared memory.
#pragma once

namespace tilewise::cuda {

/// A tile of `kRows` rows of `kColumns` 16-bit elements in shared memory, at an address that is a multiple of 128.
///
/// A row takes whole lines of 128 bytes. Within a line, the place of a chunk of 16 bytes is exclusive-ored with the
/// row, so the eight rows that one phase of ldmatrix reads lie in eight different groups of banks. (Rows that are 16
/// bytes longer than their elements would do that too, but then a copy of a line falls into two lines: the second-level
/// cache delivered half as much again.)
template <class Element, int kRows, int kColumns>
struct SharedTile {
  static_assert(kColumns % 16 == 0 && sizeof(Element) == 2);
  static constexpr int kTileRows = kRows, kTileColumns = kColumns;
  static constexpr int kRowBytes = (kColumns + 63) / 64 * 128;
  static constexpr int kBytes = kRows * kRowBytes;

  unsigned address;  // in the shared window

  __device__ unsigned at(int row, int column) const {
    return address + row * kRowBytes + column / 64 * 128 + ((column / 8 ^ row) & 7) * 16 + column % 8 * 2;
  }

  /// From the address of (r, c) to that of (r + rows, c + columns), where neither sum carries into the bits of the
  /// other term: r < rows' lowest bit, or rows is a multiple of 8, and likewise for c, in chunks.
  __device__ static unsigned moved(unsigned from, int rows, int columns) {
    return (from ^ ((columns / 8 ^ rows) & 7) * 16) + rows * kRowBytes + columns / 64 * 128;
  }
};

}  // namespace tilewise::cuda
