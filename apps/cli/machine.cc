#include "machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

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

Machine::Machine(const MachineOptions& options) : threads_(options.threads), cpu_time_(options.cpu_time) {
  const HostInfo info = host_info();
  if (options.threads < 0)
    throw Error(ErrorCode::invalid_argument, fmt::format("--threads is {}, expected 0 or more", options.threads));
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
}

std::string Machine::text() const {
  return fmt::format("{}, {} thread{}", host_info().name, threads_, threads_ == 1 ? "" : "s") +
         (cpu_time_ ? ", processor time" : "");
}

Json Machine::json() const {
  const HostInfo info = host_info();
  return {{"processor", info.name},
          {"processors", info.processors},
          {"threads", threads_},
          {"clock", cpu_time_ ? "processor" : "wall"}};
}

}  // namespace tilewise::cli
