// What crosses between a GPU and its memory in a call, by the GPU's own counters.
#pragma once

#include <optional>
#include <string>

#include "tilewise/tiles.h"

namespace tilewise::cli {

struct MeasuredTraffic {
  std::optional<Traffic> forward, backward;  // of a call
  std::string problem;                       // why there are none
};

/// Has Nsight Compute, `ncu` (a command), watch `calls`: a command that makes as many forward and backward calls as its
/// last argument says, "2,1" for two and one. What one call moves is the difference of two such runs, so that what
/// precedes calls, kernels that fill or classify, falls out. Each kernel begins with empty caches; what it leaves in
/// the second-level cache is not counted as written.
MeasuredTraffic measure_traffic(const std::string& ncu, const std::string& calls, bool backward);

/// "forward 201 MB read, 60.1 MB written; ..." or "not measured: ...".
std::string measured_text(const MeasuredTraffic& measured);

}  // namespace tilewise::cli
