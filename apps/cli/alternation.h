// Timing of several things in turn, so that all of them meet the same neighbours and clocks.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tilewise::cli {

/// Seconds that one call took, over all turns.
struct Timing {
  double best = 0;
  double median = 0;
  int turns = 0;
};

struct AlternationOptions {
  bool cpu_time = false;                         // what the processor did for the calling thread counts, not the clock
  double turn_seconds = 2e-3;                    // shorter calls are repeated within a turn until it lasts this long
  std::function<void()> each_round = [] {};      // runs first in each round, not timed
  std::function<void()> wait_for_calls = [] {};  // once a turn, timed: for calls that only begin their work, as a GPU's
};

class Alternation {
 public:
  explicit Alternation(AlternationOptions options) : options_(std::move(options)) {}

  /// Something to be timed, and what is said of it while it runs. It is called here, once or twice, to set up what
  /// calls keep and to see how long one takes; one of a second and a half or more counts, though memory is fresh then,
  /// which has been seen to cost half a second.
  void add(std::string name, std::function<void()> work);

  /// Calls everything round after round in the order in which it was added, until `seconds` have gone by and each has
  /// `least_rounds` calls, at least one. What is much shorter than the longest takes several turns a round. Gives the
  /// timings in the order of adding.
  std::vector<Timing> run(
      double seconds, std::size_t least_rounds,
      const std::function<void(const std::string&)>& say = [](const std::string&) {});

 private:
  struct Contestant {
    std::string name;
    std::function<void()> work;
    int repeats = 1;                // within one timed turn
    double typical = 0;             // seconds of a turn
    std::vector<double> seconds{};  // [turns], of one call
  };

  double seconds_of(const std::function<void()>& work, int repeats) const;

  AlternationOptions options_;
  std::vector<Contestant> contestants_;
};

}  // namespace tilewise::cli
