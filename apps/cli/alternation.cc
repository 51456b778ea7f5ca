#include "alternation.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tilewise::cli {
namespace {

constexpr double kLeastSeconds = 2e-3;  // of a timed stretch: the clock and the call around it are then below 0.1%
constexpr int kMostRepeats = 10000;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double seconds_of(const std::function<void()>& work, int repeats) {
  const double begin = now();
  for (int i = 0; i < repeats; ++i) work();
  return (now() - begin) / repeats;
}

}  // namespace

std::size_t Alternation::add(std::string name, std::function<void()> work) {
  contestants_.push_back({std::move(name), std::move(work)});
  return contestants_.size() - 1;
}

std::vector<Timing> Alternation::run(double seconds, int least_rounds,
                                     const std::function<void(const std::string&)>& say) {
  for (Contestant& contestant : contestants_) {
    say(contestant.name);
    contestant.work();  // sets up what calls keep, touches the memory
    const double once = std::max(seconds_of(contestant.work, 1), 1e-9);
    contestant.repeats = std::clamp(static_cast<int>(kLeastSeconds / once) + 1, 1, kMostRepeats);
  }
  const double begin = now();
  for (int round = 0; round < least_rounds || now() - begin < seconds; ++round) {
    each_round_();
    for (Contestant& contestant : contestants_) {
      say(contestant.name);
      contestant.seconds.push_back(seconds_of(contestant.work, contestant.repeats));
    }
  }
  std::vector<Timing> timings;
  for (Contestant& contestant : contestants_) {
    std::sort(contestant.seconds.begin(), contestant.seconds.end());
    timings.push_back({contestant.seconds.front(), contestant.seconds[contestant.seconds.size() / 2],
                       static_cast<int>(contestant.seconds.size())});
  }
  return timings;
}

}  // namespace tilewise::cli
