// Compiling kernels ahead of their first use, without a GPU: into a cache folder that an application ships.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tilewise/attention.h"

namespace tilewise {

/// One compiled kernel.
struct CompiledKernel {
  std::string name;          ///< "forward", "classify"
  std::string architecture;  ///< "sm_90a"
  int registers = 0;         ///< Of a thread.
  int stack_bytes = 0;       ///< Of a thread: what registers had no room for.
  double seconds = 0;        ///< Of its program; 0 where the folder had it already.
};

/// Compiles what plans of the shape ask for on GPUs of an architecture ("sm_80", "sm_89", "sm_90a"), into `folder` in
/// the form of the cache of compiled kernels: TILEWISE_CACHE_PATH names such folders to an application. Lengths, batch
/// and heads make no difference, except that plans for at most 16 queries decode. `paged`: for keys in pages, too.
/// Kernels for rows that are not aligned are not among them.
///
/// Throws Error(device) without NVRTC or for an architecture that it does not take, Error(unsupported) for a shape that
/// no kernel takes, Error(parse) for a name that is none, and Error(io) where the folder cannot be written.
std::vector<CompiledKernel> compile_ahead(const Variant& variant, const PlanShape& shape,
                                          const std::string& architecture, const std::string& folder,
                                          bool paged = false);

}  // namespace tilewise
