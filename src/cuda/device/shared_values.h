// Arrays of small structures in shared memory, laid out word by word as the lanes of a warp read them: of a tile's
// queries or keys, and of its diagonals. Lanes read at a product's entries: eight rows, and in each of these four pairs
// of columns.
#pragma once

#include "element.h"

namespace tilewise::cuda {

/// A structure and its words.
template <class Structure>
union WordsOf {
  static constexpr int kCount = (sizeof(Structure) + 3) / 4;
  Structure structure;
  unsigned words[kCount];
  __device__ WordsOf() {}

  /// The structure whose words are word_at(0) and on.
  template <class WordAt>
  __device__ static Structure read(const WordAt& word_at) {
    WordsOf read;
#pragma unroll
    for (int word = 0; word < kCount; ++word) read.words[word] = word_at(word);
    return read.structure;
  }
  /// Makes them its words.
  template <class WordAt>
  __device__ static void write(const Structure& structure, const WordAt& word_at) {
    WordsOf written;
    written.structure = structure;
#pragma unroll
    for (int word = 0; word < kCount; ++word) word_at(word) = written.words[word];
  }
};

/// A structure for each, behind one another.
template <class Structure, int kCount>
class PlainValues {
 public:
  using Place = const Structure*;
  __device__ Place at(int i) const { return structures_ + i; }
  __device__ Structure operator[](int i) const { return structures_[i]; }
  __device__ void set(int i, const Structure& structure) { structures_[i] = structure; }

 private:
  Structure structures_[kCount > 0 ? kCount : 1];
};

/// A structure for each query or key. Of two that are next to each other a word of one lies beside the same word of the
/// other, so that what a lane reads of both, one word or all, is read at once. Of none a word is left.
template <class Structure, int kCount>
class alignas(kCount > 0 ? 16 : 4) AxisValues {
  using Words = WordsOf<Structure>;

 public:
  /// Those from one of them on; from one of an odd number on, every second one.
  class Place {
   public:
    __device__ Structure operator[](int i) const {
      return Words::read([&](int word) { return first_[place_of(i) + 2 * word]; });
    }

   private:
    friend class AxisValues;
    __device__ explicit Place(const unsigned* first) : first_(first) {}
    const unsigned* first_;
  };

  __device__ Place at(int i) const { return Place(words_ + place_of(i)); }
  __device__ void set(int i, const Structure& structure) {
    Words::write(structure, [&](int word) -> unsigned& { return words_[place_of(i) + 2 * word]; });
  }

 private:
  __device__ static int place_of(int i) { return i / 2 * 2 * Words::kCount + i % 2; }
  unsigned words_[kCount > 0 ? (kCount + 1) / 2 * 2 * Words::kCount : 1];
};

/// A structure for each diagonal, by pairs of words, and the last one of an odd number. A warp's entries of eight rows
/// are on 14 diagonals next to each other, whose pairs, or words of one kind, are in as many banks. Of structures of
/// four words behind each other half were in the banks of the others: 168 million of the 677 million wavefronts of a
/// score of ten operations.
template <class Structure, int kCount>
class alignas(kCount > 0 ? 16 : 4) DiagonalValues {
  using Words = WordsOf<Structure>;
  static constexpr int kInPairs = Words::kCount / 2 * 2;

 public:
  /// Those from one of them on, before and behind it.
  class Place {
   public:
    __device__ Structure operator[](int i) const {
      return Words::read(
          [&](int word) { return word < kInPairs ? pairs_[word / 2 * 2 * kCount + 2 * i + word % 2] : last_[i]; });
    }

   private:
    friend class DiagonalValues;
    __device__ Place(const unsigned* pairs, const unsigned* last) : pairs_(pairs), last_(last) {}
    const unsigned* pairs_;
    const unsigned* last_;
  };

  __device__ Place at(int i) const { return Place(words_ + 2 * i, words_ + kInPairs * kCount + i); }
  __device__ Structure operator[](int i) const { return at(i)[0]; }
  __device__ void set(int i, const Structure& structure) {
    Words::write(structure, [&](int word) -> unsigned& {
      return words_[word < kInPairs ? word / 2 * 2 * kCount + 2 * i + word % 2 : kInPairs * kCount + i];
    });
  }

 private:
  unsigned words_[kCount > 0 ? Words::kCount* kCount : 1];
};

}  // namespace tilewise::cuda
