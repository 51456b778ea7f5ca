#include "tests/cuda/emulated/kernel.h"

#include <fmt/format.h>

namespace tilewise::cuda::testing {
namespace {

/// The program's source, and for each kernel a function that launches it.
std::string source_of(const jit::Program& program) {
  std::string source = host_text(program.source);
  for (const std::string& kernel : program.kernels) {
    source += fmt::format(
        "EXPORTED bool launch_{0}(const int* grid, int threads, const void* arguments, const void* bound) {{\n"
        "  return simt::launch({0}, {{grid[0], grid[1], grid[2]}}, threads, arguments, bound);\n}}\n",
        kernel);
  }
  return source;
}

std::map<std::string, std::string> headers_of(const jit::Program& program) {
  std::map<std::string, std::string> headers;
  for (const jit::Header& header : program.headers) {
    if (!header.name.starts_with("sm90/")) headers[header.name] = host_text(header.text);
  }
  return headers;
}

}  // namespace

EmulatedProgram::EmulatedProgram(const jit::Program& program)
    : library_(source_of(program), headers_of(program), "-O1") {}

bool EmulatedProgram::launch(const std::string& kernel, std::array<int, 3> grid, int threads, const void* arguments,
                             const void* bound) const {
  return library_.function<bool(const int*, int, const void*, const void*)>("launch_" + kernel)(grid.data(), threads,
                                                                                                arguments, bound);
}

}  // namespace tilewise::cuda::testing
