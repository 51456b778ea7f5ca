// What the tests of jit share: folders that vanish, a small program, a made-up binary.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "jit/compiler.h"
#include "jit/nvrtc.h"
#include "jit/program.h"
#include "tests/temporary_folder.h"
#include "tilewise/error.h"

namespace tilewise::jit {

/// y[i] = x[i] + 1 for one architecture. `tag` goes into the source as a comment, so each gives another program.
inline Program small_program(const std::string& tag = "") {
  Program program;
  program.name = "add_one.cu";
  program.source = "// " + tag +
                   "\n#include \"one.h\"\n"
                   "extern \"C\" __global__ void add_one(const float* x, float* y) {\n"
                   "  y[threadIdx.x] = x[threadIdx.x] + one();\n"
                   "}\n";
  program.headers = {{"one.h", "#pragma once\n__device__ inline float one() { return 1.0f; }\n"}};
  program.options = {"--std=c++17"};
  program.architecture = Architecture::parse("sm_80");
  program.kernels = {"add_one"};
  return program;
}

/// A binary that no compiler made; its code is the tag.
inline Binary made_up_binary(const std::string& tag, const std::string& compiler = "nvrtc-13.0") {
  Binary binary;
  binary.compiler = compiler;
  binary.architecture = "sm_80";
  binary.cubin = tag;
  binary.log = "a remark";
  binary.kernels = {{"add_one", "_Z7add_one", Resources{32, 8, 4, 16, 4096}}, {"other", "other", std::nullopt}};
  return binary;
}

inline std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void overwrite(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// The plain files below a folder whose names end so.
inline std::vector<std::string> files_below(const std::string& folder, const std::string& ending = "") {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string path = entry.path().string();
    if (entry.is_regular_file() && path.ends_with(ending)) paths.push_back(path);
  }
  return paths;
}

/// Tests that compile: skipped, saying so, where there is no NVRTC, but failed where TILEWISE_REQUIRE_NVRTC is set.
class WithNvrtc : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      nvrtc_ = &Nvrtc::instance();
    } catch (const Error& error) {
      if (std::getenv("TILEWISE_REQUIRE_NVRTC") != nullptr) FAIL() << error.what();
      GTEST_SKIP() << "CUDA text is not compiled here: " << error.what();
    }
  }

  const Nvrtc* nvrtc_ = nullptr;
};

}  // namespace tilewise::jit
