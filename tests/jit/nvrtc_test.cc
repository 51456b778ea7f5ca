#include "jit/nvrtc.h"

#include <gtest/gtest.h>

#include <thread>

#include "jit/compile_error.h"
#include "tests/jit/support.h"

namespace tilewise::jit {
namespace {

// Copies 16 * columns floats through registers, of which the bound on threads leaves it 32: too few, so it spills.
Program spilling_program() {
  Program program;
  program.name = "spill.cu";
  program.source = R"(
template <int kColumns>
__global__ void __launch_bounds__(1024, 2) spill(float* x) {
  __shared__ float shared[1024];
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = x[i * kColumns + threadIdx.x];
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  for (int round = 0; round < 4; ++round) {
    float sum = 0;
    for (int i = 0; i < 64; ++i) sum += values[i] * values[63 - i] + shared[(i * round) & 1023];
    for (int i = 0; i < 64; ++i) values[i] = values[i] * sum + i;
  }
  for (int i = 0; i < 64; ++i) x[i * kColumns + threadIdx.x] = values[i];
}
extern "C" __global__ void lean(float* x) { x[threadIdx.x] += 1; }
)";
  program.architecture = Architecture::parse("sm_80");
  program.kernels = {"spill<7>", "lean", "spill<8>"};
  return program;
}

class NvrtcCompile : public WithNvrtc {
 protected:
  // The error that compiling the program must give.
  CompileError error_of(const Program& program) {
    try {
      nvrtc_->compile(program);
    } catch (const CompileError& error) {
      return error;
    }
    ADD_FAILURE() << "it compiled";
    return CompileError("", "", {});
  }
};

TEST_F(NvrtcCompile, MakesMachineCodeForEachArchitecture) {
  int compiled = 0;
  for (const char* name : {"sm_80", "sm_89", "sm_90a", "sm_100"}) {
    Program program = small_program();
    program.architecture = Architecture::parse(name);
    const std::vector<int>& known = nvrtc_->supported();
    if (std::find(known.begin(), known.end(), program.architecture.number) == known.end()) {
      // Only sm_100 is younger than the oldest NVRTC that serves: it needs 12.8.
      EXPECT_EQ(program.architecture.number, 100);
      continue;
    }
    const Binary binary = nvrtc_->compile(program);
    EXPECT_EQ(binary.cubin.substr(0, 4),
              "\x7f"
              "ELF");
    EXPECT_EQ(binary.architecture, name);
    EXPECT_EQ(binary.compiler, nvrtc_->identity());
    EXPECT_EQ(binary.kernel("add_one").symbol, "add_one");
    ++compiled;
  }
  EXPECT_GE(compiled, 3);
}

TEST_F(NvrtcCompile, RegistersSpillsAndSharedMemoryAreRead) {
  const Binary binary = nvrtc_->compile(spilling_program());
  for (const char* name : {"spill<7>", "spill<8>"}) {
    const Resources spill = binary.kernel(name).resources.value();
    EXPECT_LE(spill.registers, 32) << "2 blocks of 1024 threads share 65536 registers";
    EXPECT_GT(spill.spill_store_bytes, 0);
    EXPECT_GT(spill.spill_load_bytes, 0);
    EXPECT_GE(spill.stack_bytes, 4);
    EXPECT_EQ(spill.shared_bytes, 4096);
  }
  const Resources lean = binary.kernel("lean").resources.value();
  EXPECT_GT(lean.registers, 0);
  EXPECT_EQ(lean.spill_store_bytes, 0);
  EXPECT_EQ(lean.spill_load_bytes, 0);
  EXPECT_EQ(lean.stack_bytes, 0);
  EXPECT_EQ(lean.shared_bytes, 0);
  EXPECT_NE(binary.kernel("spill<7>").symbol, binary.kernel("spill<8>").symbol);
}

TEST_F(NvrtcCompile, AnErrorCarriesLogLineAndPlace) {
  Program program = small_program();
  program.headers[0].text = "#pragma once\n\n__device__ inline float one() { return missing; }\n";
  program.places = {{"one.h", 3, "the constant one"}};
  const CompileError error = error_of(program);
  EXPECT_EQ(error.code(), ErrorCode::device);
  ASSERT_EQ(error.diagnostics().size(), 1u) << error.log();
  EXPECT_EQ(error.diagnostics()[0].file, "one.h");
  EXPECT_EQ(error.diagnostics()[0].line, 3);
  EXPECT_EQ(error.diagnostics()[0].place, "the constant one");
  const std::string message = error.what();
  EXPECT_NE(message.find("add_one.cu does not compile for sm_80"), std::string::npos) << message;
  EXPECT_NE(message.find("one.h(3): identifier \"missing\" is undefined, in the constant one"), std::string::npos)
      << message;
}

TEST_F(NvrtcCompile, AnErrorInATemplateNamesThePlaceThatUsesIt) {
  Program program = small_program();
  program.source =
      "template <class T> __device__ T g(T x) { return x.y; }\n#include \"one.h\"\n"
      "extern \"C\" __global__ void add_one(float* x) { x[0] = one(x[1]); }\n";
  program.headers[0].text = "__device__ float one(float x) {\n  return g(x);\n}\n";
  program.places = {{"one.h", 2, "the score's second stage"}};
  const CompileError error = error_of(program);
  ASSERT_EQ(error.diagnostics().size(), 1u) << error.log();
  EXPECT_EQ(error.diagnostics()[0].line, 1);
  EXPECT_EQ(error.diagnostics()[0].place, "the score's second stage");
}

TEST_F(NvrtcCompile, TheAssemblersErrorsAreCompileErrors) {
  Program program = small_program();
  program.source = "extern \"C\" __global__ void add_one(float* x) { asm(\"foo.bar 1;\"); }\n";
  EXPECT_NE(error_of(program).log().find("foo"), std::string::npos);
  program.source =
      "extern \"C\" __global__ void add_one(float* x) {\n  __shared__ float a[100000];\n  a[threadIdx.x] = x[0];\n"
      "  __syncthreads();\n  x[0] = a[5 - threadIdx.x];\n}\n";
  EXPECT_NE(std::string(error_of(program).what()).find("shared data"), std::string::npos);
}

TEST_F(NvrtcCompile, AKernelThatIsNotThereIsACompileError) {
  Program program = small_program();
  program.kernels.push_back("add_two");
  EXPECT_NE(std::string(error_of(program).what()).find("add_two"), std::string::npos);
}

TEST_F(NvrtcCompile, AnUnknownOptionIsACompileErrorThatNamesIt) {
  Program program = small_program();
  program.options.push_back("--no-such-option");
  EXPECT_NE(std::string(error_of(program).what()).find("--no-such-option"), std::string::npos);
}

TEST_F(NvrtcCompile, AnUnsupportedArchitectureIsRefusedWithThoseThatAre) {
  for (const char* name : {"sm_30", "sm_91", "sm_999"}) {
    Program program = small_program();
    program.architecture = Architecture::parse(name);
    try {
      nvrtc_->compile(program);
      FAIL() << name << " compiled";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::device);
      const std::string message = error.what();
      EXPECT_NE(message.find(name), std::string::npos) << message;
      EXPECT_NE(message.find("sm_80, "), std::string::npos) << message;
      EXPECT_EQ(message.find("newer") != std::string::npos, std::string(name) == "sm_999") << message;
    }
  }
}

TEST_F(NvrtcCompile, FilesBesideTheProcessAreNeverIncluded) {
  // NVRTC by itself looks into the working folder, which no key could see.
  const TemporaryFolder folder;
  std::filesystem::current_path(folder.path());
  overwrite("one.h", "#error found on disk\n");
  EXPECT_NO_THROW(nvrtc_->compile(small_program())) << "the header on offer comes first";
  Program program = small_program();
  program.headers.clear();
  EXPECT_THROW(nvrtc_->compile(program), Error);
  std::filesystem::current_path("/");
}

TEST_F(NvrtcCompile, ThreadsCompileSideBySide) {
  std::vector<std::thread> threads;
  std::vector<Binary> binaries(4);
  for (std::size_t thread = 0; thread < binaries.size(); ++thread) {
    threads.emplace_back([&, thread] { binaries[thread] = nvrtc_->compile(small_program()); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Binary& binary : binaries) EXPECT_EQ(binary.cubin, binaries[0].cubin);
}

TEST_F(NvrtcCompile, ThroughTheCacheTheBinaryIsTheSame) {
  const TemporaryFolder folder;
  DiskCacheOptions options;
  options.folder = folder.path();
  Compiler first(Backend::nvrtc(), options), second(Backend::nvrtc(), options);
  const Binary binary = *first.get(spilling_program());
  EXPECT_EQ(*second.get(spilling_program()), binary);
  EXPECT_EQ(first.counts().compiled, 1);
  EXPECT_EQ(second.counts().compiled, 0);
  EXPECT_EQ(second.counts().from_disk, 1);
}

// ---- finding it ----

std::string failure_to_open(const std::vector<std::string>& candidates) {
  try {
    Nvrtc::open(candidates);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device);
    return error.what();
  }
  ADD_FAILURE() << "it opened";
  return "";
}

TEST(NvrtcSearch, NewestReleaseFirstThenTheToolkitsFolder) {
  EXPECT_EQ(nvrtc_candidates(""),
            (std::vector<std::string>{"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so",
                                      "/usr/local/cuda/lib64/libnvrtc.so.13", "/usr/local/cuda/lib64/libnvrtc.so.12",
                                      "/usr/local/cuda/lib64/libnvrtc.so.11.2", "/usr/local/cuda/lib64/libnvrtc.so"}));
}

TEST(NvrtcSearch, AChosenLibraryIsTheOnlyCandidate) {
  EXPECT_EQ(nvrtc_candidates("/opt/libnvrtc.so.12"), std::vector<std::string>{"/opt/libnvrtc.so.12"});
}

TEST(NvrtcSearch, AChosenFolderIsSearchedAsToolkitsAndWheelsLayItOut) {
  const TemporaryFolder folder;
  const std::vector<std::string> candidates = nvrtc_candidates(folder.path());
  for (const char* path : {"/libnvrtc.so.12", "/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
                           "/nvidia/cu13/lib/libnvrtc.so.13", "/lib64/libnvrtc.so.11.2"}) {
    EXPECT_NE(std::find(candidates.begin(), candidates.end(), folder.path() + path), candidates.end()) << path;
  }
  for (const std::string& candidate : candidates) EXPECT_EQ(candidate.find(folder.path()), 0u) << candidate;
}

TEST(NvrtcSearch, WhatWasLookedForAndWhereIsSaid) {
  const std::string message = failure_to_open({"libnvrtc.so.99", "/nowhere/libnvrtc.so.13"});
  for (const char* part : {"NVRTC", "libnvrtc.so.99: ", "/nowhere/libnvrtc.so.13: no such file", "TILEWISE_NVRTC"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

TEST(NvrtcSearch, AFileThatIsNoLibraryAndOneThatIsAnotherArePassedOver) {
  const TemporaryFolder folder;
  overwrite(folder.path() + "/libnvrtc.so.13", "not a library");
  const std::string message = failure_to_open({folder.path() + "/libnvrtc.so.13", "libm.so.6"});
  EXPECT_NE(message.find("libnvrtc.so.13: "), std::string::npos) << message;
  EXPECT_NE(message.find("libm.so.6: it opens but has no nvrtc"), std::string::npos) << message;
}

}  // namespace
}  // namespace tilewise::jit
