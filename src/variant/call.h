// A call's arguments, checked once for every backend, and what follows from them.
#pragma once

#include <cstdint>

#include "core/dropout.h"
#include "tilewise/arguments.h"
#include "variant/bindings.h"

namespace tilewise::variant {

/// A call whose arguments fit together.
struct Call {
  Problem problem;               // valid; one sequence for each of the batch
  bool queries_packed = false;   // q, o, lse and their gradients have no batch axis
  bool keys_packed = false;      // k, v and their gradients have none
  bool keys_paged = false;       // k and v are pages, which a block table assigns to sequences
  ConstTensor block_table{};     // [b, pages of a sequence] int32, where keys are paged
  std::int64_t page_tokens = 0;  // likewise
  std::int64_t d_qk = 0;
  std::int64_t d_v = 0;
  double scale = 0;
  Bound bound;
  Dropout dropout;  // keeps everything where the variant has none

  bool has_dropout() const { return dropout.keep_below != 256; }

  /// The pages of a sequence whose keys are paged; -1 is a hole.
  const std::int32_t* pages_of(std::int64_t sequence) const {
    return static_cast<const std::int32_t*>(block_table.data) + sequence * block_table.strides[0];
  }
};

/// Checks what a pass reads and puts it together in `call`, whose memory is used again: a call that has held one as
/// large allocates nothing. Throws Error(invalid_argument) naming the argument, its value and what was expected. That
/// tables are read inside their extents, and that no entry of a hole of the block table is kept, is not checked here:
/// it takes a look at every entry, or a proof.
void check_inputs(const Variant& variant, const ForwardInputs& inputs, Call& call,
                  TableData data = TableData::readable);

/// The same with what a forward pass writes.
void check_forward(const Variant& variant, const ForwardInputs& inputs, const ForwardOutputs& outputs, Call& call,
                   TableData data = TableData::readable);
Call check_forward(const Variant& variant, const ForwardInputs& inputs, const ForwardOutputs& outputs);

/// Likewise for a backward pass. o and lse are checked where they are given; a backend that needs them says so.
void check_backward(const Variant& variant, const ForwardInputs& inputs, const BackwardInputs& given,
                    const BackwardOutputs& outputs, Call& call, TableData data = TableData::readable);
Call check_backward(const Variant& variant, const ForwardInputs& inputs, const BackwardInputs& given,
                    const BackwardOutputs& outputs);

}  // namespace tilewise::variant
