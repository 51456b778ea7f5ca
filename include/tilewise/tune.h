// Which of a GPU's plans is the fastest here: measured, and kept for plans to come.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tilewise {

/// One candidate, measured.
struct TunedPlan {
  std::string kernel;       ///< "forward", "backward" or "decoding".
  std::string what;         ///< What the choice is kept for: the GPU, the kernel and its shape.
  std::string plan;         ///< Tiles, warps, stages: as Plan::explain() has it.
  double seconds = 0;       ///< What `measure` said.
  bool is_default = false;  ///< What plans take where nothing is kept.
  bool is_chosen = false;   ///< The fastest.
};

/// What to measure. Both make whatever plans they need anew, on the thread that calls them.
struct TuneCase {
  std::function<void()> plan;                                ///< Makes the plan: tells what there is to choose from.
  std::function<double(const std::string& kernel)> measure;  ///< Makes it again, and gives the seconds of a call that
                                                             ///< runs that kernel.
  /// Those that the measured calls run: a plan for decoding also has forward kernels, for other calls than those.
  std::vector<std::string> kernels = {"forward", "backward", "decoding"};
};

/// Measures every candidate of those kernels that the plan chooses, and keeps the fastest, beside the compiled kernels
/// (TILEWISE_CACHE_DIR), for all plans of the same shape class on GPUs of that name: those of this process that are
/// made from now on, and those of later ones. `keep`: false only measures. Results of plans that sum up in another
/// order differ in their last bits.
///
/// Throws what `given` throws, Error(invalid_argument) for a kernel of another name, Error(unsupported) where the plan
/// has nothing to choose, as the processor's, and Error(io) where the choice could not be written; it holds for this
/// process then.
std::vector<TunedPlan> tune(const TuneCase& given, bool keep = true);

}  // namespace tilewise
