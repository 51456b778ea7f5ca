#include "machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "tilewise/device.h"
#include "tilewise/error.h"

namespace tilewise::cli {

void add_machine_options(CLI::App& command, MachineOptions& options) {
  command.add_option("--threads", options.threads, "Threads; 0 means one for each processor")->capture_default_str();
  command.add_option(
      "--isa", options.isa,
      "Use at most this instruction set; `tilewise device --no-measure` lists them. The best by default");
  command.add_flag("--cpu-time", options.cpu_time,
                   "Time what the processor did for the thread, not the clock: for one thread on a busy machine");
}

void add_device_option(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "cpu, cuda, or cuda:1 for the second GPU; `tilewise device` lists them")
      ->capture_default_str();
}

Device device_from_string(const std::string& text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  constexpr std::string_view kPrefix = "cuda:";
  int ordinal = 0;
  if (text.starts_with(kPrefix)) {
    const char *begin = text.data() + kPrefix.size(), *end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(begin, end, ordinal);
    if (error == std::errc() && rest == end && begin != end) return Device::cuda(ordinal);
  }
  throw Error(ErrorCode::invalid_argument, fmt::format("--device is '{}', expected cpu, cuda or cuda:NUMBER", text));
}

namespace {

constexpr int kMostThreads = 1024;  // each has a workspace and a stack

std::string gpu_name(const Device& device) {
  for (const GpuInfo& gpu : list_gpus()) {
    if (gpu.ordinal == device.ordinal()) return gpu.name;
  }
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("--device is {}, which the driver does not show; `tilewise device` lists the GPUs", device.text()));
}

}  // namespace

Machine::Machine(const MachineOptions& options)
    : threads_(options.threads), cpu_time_(options.cpu_time), device_(device_from_string(options.device)) {
  const HostInfo info = host_info();
  if (options.threads < 0 || options.threads > kMostThreads) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--threads is {}, expected 0 to {}", options.threads, kMostThreads));
  }
  if (threads_ == 0) threads_ = info.processors;
  if (cpu_time_ && threads_ != 1)
    throw Error(ErrorCode::invalid_argument, fmt::format("--threads is {}, expected 1 with --cpu-time", threads_));
  if (!options.isa.empty()) {
    if (std::ranges::find(info.instruction_sets, options.isa) == info.instruction_sets.end()) {
      throw Error(ErrorCode::invalid_argument, fmt::format("--isa is '{}', expected one that this processor runs: {}",
                                                           options.isa, fmt::join(info.instruction_sets, ", ")));
    }
    setenv("TILEWISE_ISA", options.isa.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): no other thread runs yet
  }
  executor_ = make_thread_pool(threads_);
  if (device_.is_cuda()) {
    if (cpu_time_ || !options.isa.empty() || options.threads != 1) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--device is {}, expected it without --threads, --isa and --cpu-time", device_.text()));
    }
    gpu_ = gpu_name(device_);
  } else {
    device_ = Device::cpu(*executor_);
  }
}

std::string Machine::text() const {
  if (device_.is_cuda()) return fmt::format("{} ({})", gpu_, device_.text());
  return fmt::format("{}, {} thread{}", host_info().name, threads_, threads_ == 1 ? "" : "s") +
         (cpu_time_ ? ", processor time" : "");
}

Json Machine::json() const {
  if (device_.is_cuda()) return {{"gpu", gpu_}, {"device", device_.text()}};
  const HostInfo info = host_info();
  return {{"processor", info.name},
          {"processors", info.processors},
          {"threads", threads_},
          {"clock", cpu_time_ ? "processor" : "wall"}};
}

}  // namespace tilewise::cli
