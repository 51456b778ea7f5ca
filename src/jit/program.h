// What is compiled, and what comes of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jit/architecture.h"

namespace tilewise::jit {

/// A header that lives in the program's memory, found by exactly this name in #include "name" or <name>.
struct Header {
  std::string name;
  std::string text;
};

/// Where generated text comes from: lines from `line` on in `file` (the program's name or a header's), up to the next
/// place of the same file, stem from `place`, in the caller's words. An empty place says: from nowhere in particular.
struct Place {
  std::string file;
  int line = 1;
  std::string place;
};

/// A compilation unit, whole: no file is ever read, so that equal programs give equal code.
struct Program {
  std::string name;                  // of the source, as messages quote it: "forward.cu"
  std::string source;                // CUDA C++
  std::vector<Header> headers;       // all on offer; only those that are included count
  std::vector<std::string> options;  // NVRTC's, but for the architecture and include paths
  Architecture architecture;
  std::vector<std::string> kernels;  // name expressions: "add", "forward<64, true>"
  std::vector<Place> places;         // for messages only; in any order
};

/// What a kernel takes of a multiprocessor, as the assembler reports it. Stack and spills are the kernel's own: those
/// of functions that it calls and that are not inlined do not count.
struct Resources {
  int registers = 0;              // for each thread
  int spill_store_bytes = 0;      // for each thread: stores to local memory for want of registers
  int spill_load_bytes = 0;       // likewise loads
  int stack_bytes = 0;            // for each thread
  std::int64_t shared_bytes = 0;  // for each block, static

  bool operator==(const Resources&) const = default;
};

/// One kernel of a compiled program.
struct KernelInfo {
  std::string name;                    // as the program asks for it
  std::string symbol;                  // in the binary (mangled for a template)
  std::optional<Resources> resources;  // absent where the compiler's log does not state them

  bool operator==(const KernelInfo&) const = default;
};

/// A compiled program.
struct Binary {
  std::string compiler;      // "nvrtc-13.0"
  std::string architecture;  // "sm_90a"
  std::string cubin;         // bytes, for the driver
  std::string log;           // warnings and the assembler's remarks
  std::vector<KernelInfo> kernels;

  /// The kernel of that name; throws Error(invalid_argument) listing those there are.
  const KernelInfo& kernel(const std::string& name) const;

  bool operator==(const Binary&) const = default;
};

/// The headers that the source includes, directly or through others, sorted by name. Every #include line counts, even
/// one in a comment or a branch not taken. Throws Error(invalid_argument) where one names a header that is not on
/// offer, or names none literally; and where two headers on offer share a name.
std::vector<const Header*> headers_used(const Program& program);

/// Throws Error(invalid_argument) for a program without kernels, or with an option that would make the result depend
/// on anything outside of the program (include paths, a second architecture).
void validate(const Program& program);

}  // namespace tilewise::jit
