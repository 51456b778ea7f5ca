#include "measured_traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "child.h"
#include "progress.h"

namespace tilewise::cli {
namespace {

constexpr const char* kRead = "dram__bytes_read.sum";
constexpr const char* kWritten = "dram__bytes_write.sum";

/// The value of a metric in a line of comma-separated values, "...","dram__bytes_read.sum","byte","1,234",...
std::optional<double> value_in(const std::string& line, const std::string& metric) {
  const std::string before = "\"" + metric + "\",\"byte\",\"";
  const std::size_t found = line.find(before);
  if (found == std::string::npos) return std::nullopt;
  const std::size_t begin = found + before.size(), end = line.find('"', begin);
  std::string digits = line.substr(begin, end - begin);
  std::erase(digits, ',');
  double value = 0;
  const auto [last, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && last == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
}

/// What a profiler that counted nothing says: its own error, else what was printed last.
std::string problem_of(const std::string& ncu, const ChildOutput& output) {
  constexpr int kNoSuchProgram = 127;
  if (output.status == kNoSuchProgram)
    return fmt::format("there is no '{}' here; it comes with the CUDA toolkit, as Nsight Compute", ncu);
  const auto error = std::ranges::find_if(
      output.lines, [](const std::string& line) { return line.find("==ERROR==") != std::string::npos; });
  if (error != output.lines.end()) return *error;
  return output.lines.empty() ? fmt::format("{} told nothing", ncu) : output.lines.back();
}

/// All kernels of a run together; sets `problem` where there is nothing to add up.
Traffic counted(const std::string& ncu, const std::string& calls, int forward, int backward, std::string& problem) {
  const ChildOutput output =
      run_child(fmt::format("{} --csv --print-units base --clock-control none --metrics {},{} {} {},{}", quoted(ncu),
                            kRead, kWritten, calls, forward, backward));
  Traffic sum;
  bool any = false;
  for (const std::string& line : output.lines) {
    const auto read = value_in(line, kRead), written = value_in(line, kWritten);
    sum.read += read.value_or(0);
    sum.written += written.value_or(0);
    any = any || read || written;
  }
  if (!any || output.status != 0) problem = problem_of(ncu, output);
  return sum;
}

/// Counts vary a little from run to run.
Traffic difference(const Traffic& more, const Traffic& less) {
  return {std::max(more.read - less.read, 0.0), std::max(more.written - less.written, 0.0)};
}

std::string megabytes(const char* direction, const Traffic& traffic) {
  return fmt::format("{} {:.3g} MB: {:.3g} read, {:.3g} written", direction, traffic.total() / 1e6, traffic.read / 1e6,
                     traffic.written / 1e6);
}

}  // namespace

MeasuredTraffic measure_traffic(const std::string& ncu, const std::string& calls, bool backward) {
  MeasuredTraffic measured;
  if (ncu.empty()) return {{}, {}, "no program to read hardware counters by was asked for"};
  Progress progress(backward ? 3 : 2);
  const auto run = [&](int of_forward, int of_backward) {
    if (!measured.problem.empty()) return Traffic();
    progress.step("memory traffic by hardware counters");
    return counted(ncu, calls, of_forward, of_backward, measured.problem);
  };
  const int base = backward ? 1 : 0;
  const Traffic first = run(1, base), forward = run(2, base), both = backward ? run(1, 2) : Traffic();
  if (!measured.problem.empty()) return measured;
  measured.forward = difference(forward, first);
  if (backward) measured.backward = difference(both, first);
  return measured;
}

std::string measured_text(const MeasuredTraffic& measured) {
  if (!measured.forward) return "not measured: " + measured.problem;
  return megabytes("forward", *measured.forward) +
         (measured.backward ? "; " + megabytes("backward", *measured.backward) : "");
}

}  // namespace tilewise::cli
