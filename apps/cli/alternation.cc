#include "alternation.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

namespace tilewise::cli {
namespace {

constexpr int kMostRepeats = 10000;
constexpr int kMostTurns = 10;     // of a short call in a round: together no longer than a third of the longest
constexpr double kLongCall = 1.5;  // a call this long counts the first time, too: fresh memory costs it little

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

double Alternation::seconds_of(const std::function<void()>& work, int repeats) const {
  const auto clock = options_.cpu_time ? thread_seconds : now;
  const double begin = clock();
  for (int i = 0; i < repeats; ++i) work();
  options_.wait_for_calls();
  return (clock() - begin) / repeats;
}

void Alternation::add(std::string name, std::function<void()> work) {
  Contestant contestant{std::move(name), std::move(work)};
  const double first = seconds_of(contestant.work, 1);  // sets up what calls keep, touches the memory
  contestant.typical = first;
  if (first >= kLongCall) {
    contestant.seconds.push_back(first);
  } else {
    const double second = std::max(seconds_of(contestant.work, 1), 1e-9);
    contestant.repeats = std::clamp(static_cast<int>(options_.turn_seconds / second) + 1, 1, kMostRepeats);
    contestant.typical = second * contestant.repeats;
  }
  contestants_.push_back(std::move(contestant));
}

std::vector<Timing> Alternation::run(double seconds, std::size_t least_rounds,
                                     const std::function<void(const std::string&)>& say) {
  double longest = 0;
  for (const Contestant& contestant : contestants_) longest = std::max(longest, contestant.typical);
  const double end = now() + seconds;
  const auto goes_on = [&](const Contestant& contestant) {
    return contestant.seconds.size() < least_rounds || now() < end;
  };
  while (std::ranges::any_of(contestants_, goes_on)) {
    options_.each_round();
    for (Contestant& contestant : contestants_) {
      if (!goes_on(contestant)) continue;
      say(contestant.name);
      const int turns = std::clamp(static_cast<int>(longest / contestant.typical / 3), 1, kMostTurns);
      for (int i = 0; i < turns; ++i) contestant.seconds.push_back(seconds_of(contestant.work, contestant.repeats));
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
