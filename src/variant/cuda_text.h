// The CUDA reading: a variant as CUDA C++ text for the run-time compiler.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "variant/bindings.h"
#include "variant/graph.h"

namespace tilewise::variant {

/// Where a bound value lies in the text's `Arguments`, which a kernel takes by value.
struct ArgumentLayout {
  std::vector<std::int64_t> tables;      // [graph.tables()], byte offset of a table's view (see below)
  std::vector<std::int64_t> literals;    // [slots], byte offset of a 4-byte float or int
  std::vector<std::int64_t> parameters;  // [graph.parameters()], likewise
  std::int64_t size = 0;                 // of all, in bytes; a multiple of 8
};

/// A table's view in Arguments: pointer (8 bytes), `rank` strides in elements (8 bytes each), `rank` extents (4 bytes
/// each), padded to 8 bytes.
std::int64_t table_view_size(int rank);

/// A variant's text: namespace `variant` with
///   struct Arguments       what the call binds, laid out as `layout` says;
///   struct Sequence        lengths, offsets and heads: the caller fills it for each (sequence, head);
///   struct Uniform, Query, Key, Diagonal
///                          values hoisted by what they depend on, made by uniform_values(), query_values(),
///                          key_values() and diagonal_values() (of query_index - key_index);
///   full_score(...)        the score where every keep is proven true;
///   partial_score(...)     the score with -inf for removed entries;
///   sink_logit(...)        the sink's logit, where there is one;
///   sloped_score(...)      where `with_slope`: partial_score and its derivative by the score that came in, for
///   backward
///                          passes; 0 where the entry is removed or its score was clamped.
///   add_gradients(...), add_sink_gradients(...)
///                          where `with_gradients`: what an entry, or a row's sink, gives to the gradients of tables
///                          and parameters, from the derivative of the loss by its last score or its sink's logit;
///                          handed to add_table(slot, table, number, value, indices...) and add_parameter(slot,
///                          number, value). add_gradients<false>() takes for granted that no stage's score is
///                          clamped. What a slot of an entry adds to one element is shared by the entries of
///                          its class, kClass, a Hoist: Slot<0>, Slot<1> and so on, kSlots of them; a sink's is Direct;
///   gradient_element(...)  the number of the element that a slot's entry adds to, in row-major order; -1 where the
///   table
///                          is empty. For slots of tables whose class is not the entry.
/// Arithmetic is as the scalar float32 reading states it: correctly rounded operations keep their bits (the text uses
/// the _rn intrinsics, so that a kernel's own contraction cannot reach it).
///
/// The text depends on what the content key depends on, and on nothing else: equal keys, equal texts.
struct CudaText {
  std::string source;
  ArgumentLayout layout;
  bool is_rearranged = false;
  bool has_slope = false;
  bool has_gradients = false;
  std::array<int, 5> fields{};     // of the structs of hoisted values, by Hoist
  bool slope_is_finite = false;    // as Rearranged says
  int hoisted_operations = 0;      // operations and reads by which hoisted values of the rearranged text are made
  int diagonal_reads = 0;          // of these, reads of tables by which a diagonal's values are made
  int entry_operations = 0;        // of an entry's exponent
  int special_functions = 0;       // of an entry's exponent: those on the unit that makes exponentials
  bool may_be_steady = false;      // whether steady_value() may find one number ...
  bool may_be_linear = false;      // ... or a line; where neither, there are no parts of an exponent
  bool value_is_product = false;   // of these parts
  bool adds_diagonals = false;     // whether there is of_diagonal()
  bool begins_steady = false;      // may_be_steady, of an exponent factor() * product + number, with slopes of the head
  bool may_be_small = false;       // whether there are small_exponent() and square_limit()
  bool follows_diagonals = false;  // whether keeps() is the same for all entries of a diagonal (variant/hoist.h)
  std::array<int, 5> slots{};      // of gradients, by their class, a Hoist

  /// Whether scores take so many operations that kernels make fewer of them at a time.
  bool is_long() const { return entry_operations > 3; }
};
CudaText cuda_text(const Variant& variant, bool with_slope = false, bool with_gradients = false);

/// The text for kernels whose inputs have 16 bits, by rearranged(): in the place of full_score and its like
///   keeps(...)             whether every keep is true;
///   score(...)             the score of a product q.k, -inf where a stage removes the entry; Sequence::scale is its
///                          factor;
///   exponent(...)          the same times log2(e), by fewer operations: score() would be clamped from below;
///   slope(...)             where `with_slope`: the derivative of the score by scale * product;
///   steady_value(...)      where may_be_steady or may_be_linear: what diagonals from `least` to `most` add to
///                          exponents, if that is proven to be one number or to lie on a line (cuda/device/steady.h,
///                          which such a text is to follow);
///   value(...), factor(...), of_query(...)
///                          then an exponent is factor * value + of_query + that number (variant/rearranged.h).
///   factor(...), of_diagonal(...)
///                          where adds_diagonals, with slopes alone: an exponent is factor * product + of_diagonal, and
///                          the slope is the same for all entries of a head.
///   small_exponent(...), square_limit(...)
///                          where may_be_small: an exponent by fewer operations, for products whose square is at most
///                          that (variant/rearranged.h).
/// All but keeps() where there are score stages. `layout` is the exact text's.
CudaText rearranged_cuda_text(const Variant& variant, DType dtype, bool with_slope);

/// What a struct of hoisted values has at most, if it is to be kept in shared memory for all entries of a tile: where
/// there are score stages, and where masks alone read it, in partial tiles.
inline constexpr int kMostKeptFields = 4, kMostKeptOfMasks = 1;

/// The arguments' bytes for a launch: what `Bound` holds, in the layout's places. Table data must be device addresses.
std::vector<std::byte> pack_arguments(const Graph& graph, const Bound& bound, const ArgumentLayout& layout);

/// The same into `bytes`, whose memory is used again.
void pack_arguments(const Graph& graph, const Bound& bound, const ArgumentLayout& layout,
                    std::vector<std::byte>& bytes);

}  // namespace tilewise::variant
