// How large a launch is.
#pragma once

#include <cstdint>

namespace tilewise::cuda {

struct ForwardExtent {
  std::int64_t b = 1, h_q = 1;
  std::int64_t s_q = 0;   // of the longest sequence
  std::int64_t s_kv = 0;  // likewise; for backward passes
  /// Rows of q's and of k's and v's storage in a head: of the longest sequence or, where packed, of all. -1: not known,
  /// which the kernels that copy by the copy engine refuse.
  std::int64_t q_rows = -1, kv_rows = -1;
};

}  // namespace tilewise::cuda
