// A CUDA driver without a GPU, for tests: fake_driver.cc builds as a library with the driver's symbols. Tests set what
// it answers, and read what it was asked.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace tilewise::jit {

struct FakeDriver {
  // What it answers.
  int version = 12040;
  int device_count = 2;
  int compute_capability = 90;
  bool knows_clocks = true;
  std::map<std::string, int> results;  // of calls, by symbol: other than success
  unsigned memory_type = 2;            // of every pointer: 2 is a GPU's
  unsigned is_managed = 0;             // likewise
  int memory_ordinal = 0;              // likewise
  int capture_status = 0;              // of every stream
  std::string refused_code;            // module images that begin so are refused as no binary for this GPU (209)
  bool has_memory = false;             // what is allocated is the host's, and copies are made

  /// Called for every kernel that is launched, or put into a graph, with its name and the pointers to its arguments.
  std::function<void(const std::string& kernel, void** arguments)> on_kernel;

  // What it was asked.
  int contexts = 0;        // retained and not released
  int modules = 0;         // loaded and not unloaded
  std::vector<int> stack;  // current contexts, the last on top, as ordinals
  std::string last_function;
  std::array<unsigned, 3> grid{}, block{}, cluster{};
  unsigned dynamic_shared_bytes = 0;
  unsigned attribute_count = 0;
  const void* stream = nullptr;
  int first_argument = 0;
  int launch_context = -1;  // ordinal
  int max_dynamic_shared_bytes = 0;
  int launches = 0;  // of single kernels

  struct Node {
    unsigned blocks;  // along x
    int first_argument;
    unsigned cluster = 1;  // along x
    bool begins_early = false;
    bool is_behind = true;  // the one before, if there is one
  };
  int graphs = 0, ready_graphs = 0;  // made and not destroyed
  std::vector<Node> nodes;           // of the last graph, in order
  int settings = 0;                  // of nodes
  int graph_launches = 0;
};

}  // namespace tilewise::jit

/// The library's one driver.
extern "C" tilewise::jit::FakeDriver* fake_driver();
