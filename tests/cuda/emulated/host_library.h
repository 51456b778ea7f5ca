// Device code on this processor: CUDA C++ rewritten to C++, compiled by this machine's compiler and loaded. What it
// uses of CUDA is intrinsics.h, with threads simt.h, with PTX ptx.h.
#pragma once

#include <map>
#include <string>

#include "tests/temporary_folder.h"

namespace tilewise::cuda::testing {

/// CUDA C++ with PTX statements replaced by calls: asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(a)) becomes
/// ptx::ld_shared_f32(x, a). Throws std::runtime_error on a statement of another form.
std::string host_text(const std::string& text);

/// A shared library made of text, gone with the object. It exports the functions before which EXPORTED stands.
class HostLibrary {
 public:
  /// `source` becomes a file that begins with ptx.h; it may include `headers`, by their names, and what stands under
  /// src/. All of it is C++ already. Throws std::runtime_error where it does not compile.
  HostLibrary(const std::string& source, const std::map<std::string, std::string>& headers, const char* optimisation);
  ~HostLibrary();
  HostLibrary(const HostLibrary&) = delete;
  HostLibrary& operator=(const HostLibrary&) = delete;

  /// An exported function. Throws std::runtime_error where there is none.
  template <class Function>
  Function* function(const std::string& name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }

 private:
  void* symbol(const std::string& name) const;

  TemporaryFolder folder_;
  void* library_ = nullptr;
};

}  // namespace tilewise::cuda::testing
