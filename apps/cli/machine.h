// The machine as a bench command is told to use it: instruction set and threads.
#pragma once

#include <memory>
#include <string>

#include "command.h"
#include "tilewise/executor.h"

namespace tilewise::cli {

struct MachineOptions {
  std::string isa;  // the best one
  int threads = 1;  // 0: as many as processors
  bool cpu_time = false;
};

/// Adds --isa, --threads and --cpu-time.
void add_machine_options(CLI::App& command, MachineOptions& options);

class Machine {
 public:
  /// Throws Error(invalid_argument) on an instruction set that the processor does not run, and on a negative number of
  /// threads, or on several where processor time is wanted, which is one thread's. What is planned afterwards, on any
  /// executor, uses at most that instruction set.
  explicit Machine(const MachineOptions& options);

  int threads() const { return threads_; }
  bool cpu_time() const { return cpu_time_; }  ///< Whether times count the processor's work for this thread alone.
  Executor& executor() const { return *executor_; }
  std::string text() const;  ///< "AMD EPYC, 1 thread"
  Json json() const;

 private:
  int threads_;
  bool cpu_time_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace tilewise::cli
