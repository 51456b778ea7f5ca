// The part of NVRTC's C interface that Tilewise calls, declared here so that building needs no CUDA headers. Names,
// types and values are NVRTC's, the same since CUDA 11.2.
#pragma once

#include <cstddef>

#include "jit/library.h"

namespace tilewise::jit {

/// nvrtcResult: 0 is success. Only values that are told apart are named.
using NvrtcResult = int;
inline constexpr NvrtcResult kNvrtcOutOfMemory = 1;
inline constexpr NvrtcResult kNvrtcInvalidOption = 5;
inline constexpr NvrtcResult kNvrtcCompilation = 6;

/// nvrtcProgram, an opaque handle.
using NvrtcProgram = struct NvrtcProgramRecord*;

/// The entry points.
struct NvrtcApi {
  const char* (*get_error_string)(NvrtcResult result);
  NvrtcResult (*version)(int* major, int* minor);
  NvrtcResult (*get_num_supported_archs)(int* count);
  NvrtcResult (*get_supported_archs)(int* numbers);  // [count]
  NvrtcResult (*create_program)(NvrtcProgram* program, const char* source, const char* name, int header_count,
                                const char* const* header_texts,   // [header_count]
                                const char* const* header_names);  // [header_count]
  NvrtcResult (*destroy_program)(NvrtcProgram* program);
  NvrtcResult (*add_name_expression)(NvrtcProgram program, const char* expression);
  NvrtcResult (*compile_program)(NvrtcProgram program, int option_count, const char* const* options);
  NvrtcResult (*get_lowered_name)(NvrtcProgram program, const char* expression, const char** symbol);
  NvrtcResult (*get_cubin_size)(NvrtcProgram program, std::size_t* size);
  NvrtcResult (*get_cubin)(NvrtcProgram program, char* bytes);  // [size]
  NvrtcResult (*get_program_log_size)(NvrtcProgram program, std::size_t* size);
  NvrtcResult (*get_program_log)(NvrtcProgram program, char* log);  // [size], with the closing 0
};

/// The symbols behind the entry points; every one is required.
std::vector<const char*> nvrtc_symbols();

/// The entry points of an opened NVRTC.
NvrtcApi bind_nvrtc(const SharedLibrary& library);

}  // namespace tilewise::jit
