// Other implementations on the same GPU: those that the Python at hand has.
#pragma once

#include <string>
#include <vector>

namespace tilewise::cli {

/// Full or causal attention, as peers have it.
struct PeerCase {
  std::string variant;  // "plain" or "causal()"
  std::string direction, dtype;
  std::int64_t dim = 0, queries = 0, keys = 0, batch = 0, heads = 0, kv_heads = 0;
};

struct PeerRate {
  std::string peer;  // "FlashAttention-2", "cuDNN"
  PeerCase of;
  double seconds = 0;  // of a call, the median
};

struct Peers {
  std::vector<PeerRate> rates;
  std::string problem;  // why there are none, or fewer
};

/// Measures the backends of PyTorch's scaled_dot_product_attention on a GPU, by a program of `python` (a command).
Peers measure_peers(const std::vector<PeerCase>& cases, int ordinal, const std::string& python);

}  // namespace tilewise::cli
