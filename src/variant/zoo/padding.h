#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"

namespace tilewise::zoo {

/// Padded batches: keys from each sequence's length on are removed.
///
///     keep(key_index < length[batch])
///
/// A batch with more sequences than `lengths` is refused when it is planned.
///
/// `lengths`: keys of each sequence, none negative, at least 1 in all.
///
/// Source: the key padding mask of PyTorch's MultiheadAttention (2019)
/// Example: padding([700, 512, 1024])
Variant padding(const std::vector<std::int32_t>& lengths) {
  expect_lengths("padding", "lengths", lengths);
  const Table length = frozen("length", lengths);
  return keep([&](const At& at) { return at.key_index < length(at.batch); });
}

}  // namespace tilewise::zoo
