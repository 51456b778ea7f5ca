// What does the first use of a kernel cost, step by step, and a launch after it? The kernel is the smallest one there
// is, so these are the costs of the way, not of a kernel: a whole attention kernel's compilation is measured with it.
//
// The first two steps happen once in a process: run with --benchmark_filter for one step to see it from the start.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "jit/compiler.h"
#include "jit/module.h"
#include "jit/nvrtc.h"
#include "tilewise/error.h"

namespace {

using namespace tilewise::jit;  // NOLINT(google-build-using-namespace): this file has no other subject

Program program(const std::string& tag = "") {
  Program program;
  program.name = "store.cu";
  program.source = "// " + tag + "\nextern \"C\" __global__ void store(int* x, int value) { if (x) *x = value; }\n";
  program.architecture = Architecture::parse("sm_90a");
  program.kernels = {"store"};
  return program;
}

// The entries of this run, removed at its end.
const std::string& folder() {
  struct Folder {
    std::string path = (std::filesystem::temp_directory_path() / "tilewise-first-use-XXXXXX").string();
    Folder() {
      if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("no temporary folder");
    }
    ~Folder() { std::filesystem::remove_all(path); }
  };
  static const Folder kFolder;
  return kFolder.path;
}

DiskCacheOptions disk() {
  DiskCacheOptions options;
  options.folder = folder();
  return options;
}

// Runs the step, or says why it cannot be run here.
template <class Step>
void measure(benchmark::State& state, Step step) {
  try {
    step();
  } catch (const tilewise::Error& error) {
    state.SkipWithError(error.what());
  }
}

void open_nvrtc(benchmark::State& state) {
  measure(state, [&] {
    for (auto _ : state) Nvrtc::instance();
  });
}
BENCHMARK(open_nvrtc)->Iterations(1)->Unit(benchmark::kMillisecond);

void open_driver_and_context(benchmark::State& state) {
  measure(state, [&] {
    for (auto _ : state) Context(Driver::instance(), 0);
  });
}
BENCHMARK(open_driver_and_context)->Iterations(1)->Unit(benchmark::kMillisecond);

void compile(benchmark::State& state) {
  measure(state, [&] {
    int number = 0;
    for (auto _ : state) Nvrtc::instance().compile(program(std::to_string(++number)));
  });
}
BENCHMARK(compile)->Unit(benchmark::kMillisecond);

void get_from_disk(benchmark::State& state) {
  measure(state, [&] {
    Compiler(Backend::nvrtc(), disk()).get(program());
    for (auto _ : state) Compiler(Backend::nvrtc(), disk()).get(program());
  });
}
BENCHMARK(get_from_disk)->Unit(benchmark::kMicrosecond);

void get_from_memory(benchmark::State& state) {
  measure(state, [&] {
    Compiler compiler(Backend::nvrtc(), disk());
    for (auto _ : state) compiler.get(program());
  });
}
BENCHMARK(get_from_memory)->Unit(benchmark::kMicrosecond);

void load_module(benchmark::State& state) {
  measure(state, [&] {
    const auto context = std::make_shared<const Context>(Driver::instance(), 0);
    const std::shared_ptr<const Binary> binary = Compiler(Backend::nvrtc(), disk()).get(program());
    for (auto _ : state) Module::load(context, binary);
  });
}
BENCHMARK(load_module)->Unit(benchmark::kMicrosecond);

// The host's part of a launch: the queue is emptied outside of the measured time before it is full.
void launch(benchmark::State& state) {
  measure(state, [&] {
    const auto context = std::make_shared<const Context>(Driver::instance(), 0);
    const CurrentContext current(*context);
    Compiler compiler(Backend::nvrtc(), disk());
    const Kernel kernel = load_program(compiler, program(), context)->kernel("store");
    int launched = 0;
    for (auto _ : state) {
      kernel({}, DevicePointer{0}, launched);
      if (++launched % 256 != 0) continue;
      state.PauseTiming();
      context->driver().api().stream_synchronize(nullptr);
      state.ResumeTiming();
    }
  });
}
BENCHMARK(launch)->Unit(benchmark::kMicrosecond);

}  // namespace
