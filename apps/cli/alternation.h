// Timing of several things in turn, so that all of them meet the same neighbours and clocks.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tilewise::cli {

/// Seconds that one call took, over all rounds.
struct Timing {
  double best = 0;
  double median = 0;
  int rounds = 0;
};

class Alternation {
 public:
  /// `each_round` runs first in each round, not timed.
  explicit Alternation(std::function<void()> each_round = [] {}) : each_round_(std::move(each_round)) {}

  /// Something to be timed, and what is said of it while it runs. Returns its number.
  std::size_t add(std::string name, std::function<void()> work);

  /// Calls everything once untimed, then round after round in the order in which they were added, until `seconds` have
  /// gone by and at least `least_rounds` are complete. Calls of less than two milliseconds are repeated within a round.
  std::vector<Timing> run(
      double seconds, int least_rounds, const std::function<void(const std::string&)>& say = [](const std::string&) {});

 private:
  struct Contestant {
    std::string name;
    std::function<void()> work;
    int repeats = 1;
    std::vector<double> seconds{};  // [rounds], of one call
  };

  std::function<void()> each_round_;
  std::vector<Contestant> contestants_;
};

}  // namespace tilewise::cli
