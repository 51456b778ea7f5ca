// The machine as a bench command is told to use it: instruction set and threads, or a GPU.
#pragma once

#include <memory>
#include <string>

#include "command.h"
#include "tilewise/device.h"

namespace tilewise::cli {

struct MachineOptions {
  std::string isa;  // the best one
  int threads = 1;  // 0: as many as processors
  bool cpu_time = false;
  std::string device = "cpu";
};

/// Adds --isa, --threads and --cpu-time.
void add_machine_options(CLI::App& command, MachineOptions& options);

/// Adds --device.
void add_device_option(CLI::App& command, std::string& device);

/// "cpu", "cuda" or "cuda:1". Throws Error(invalid_argument) on anything else.
Device device_from_string(const std::string& text);

class Machine {
 public:
  /// Throws Error(invalid_argument) on an instruction set that the processor does not run, and on a negative number of
  /// threads, or on several where processor time is wanted, which is one thread's; as device_from_string, and on a GPU
  /// that is not there. Throws Error(device) where the GPU's driver fails. What is planned afterwards, on any
  /// executor, uses at most that instruction set.
  explicit Machine(const MachineOptions& options);

  int threads() const { return threads_; }
  bool cpu_time() const { return cpu_time_; }  ///< Whether times count the processor's work for this thread alone.
  Executor& executor() const { return *executor_; }
  const Device& device() const { return device_; }
  std::string text() const;  ///< "AMD EPYC, 1 thread", "NVIDIA H200 (cuda:0)"
  Json json() const;

 private:
  int threads_;
  bool cpu_time_;
  std::unique_ptr<Executor> executor_;
  Device device_;
  std::string gpu_;  // its name, where the device is one
};

}  // namespace tilewise::cli
