#include "jit/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include "core/fail.h"

namespace tilewise::jit {
namespace {

bool is_path(const std::string& candidate) { return candidate.find('/') != std::string::npos; }

// Opens a candidate; on failure returns null and sets `reason`.
void* open(const std::string& candidate, std::string& reason) {
  // dlopen's own words for an absent path are the same ones, but longer by the path, which the caller prints already.
  if (is_path(candidate) && access(candidate.c_str(), F_OK) != 0) {
    reason = "no such file";
    return nullptr;
  }
  void* handle = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* text = dlerror();
    reason = text != nullptr ? text : "dlopen failed";
    const std::string prefix = candidate + ": ";
    if (reason.rfind(prefix, 0) == 0) reason.erase(0, prefix.size());
  }
  return handle;
}

// The first required symbol that the library lacks, or null.
const char* first_missing(void* handle, const std::vector<const char*>& required) {
  for (const char* symbol : required) {
    if (dlsym(handle, symbol) == nullptr) return symbol;
  }
  return nullptr;
}

std::string path_of(void* handle, const std::vector<const char*>& symbols, const std::string& candidate) {
  Dl_info info;
  for (const char* symbol : symbols) {
    if (dladdr(dlsym(handle, symbol), &info) != 0 && info.dli_fname != nullptr) return info.dli_fname;
  }
  return candidate;
}

}  // namespace

SharedLibrary SharedLibrary::open_first(const LibrarySearch& search) {
  std::string tried;
  for (const std::string& candidate : search.candidates) {
    std::string reason;
    void* handle = open(candidate, reason);
    if (handle != nullptr) {
      const char* missing = first_missing(handle, search.required);
      if (missing == nullptr) {
        SharedLibrary library;
        library.handle_ = handle;
        library.path_ = path_of(handle, search.required, candidate);
        return library;
      }
      reason = fmt::format("it opens but has no {}", missing);
      dlclose(handle);
    }
    tried += fmt::format("\n  {}: {}", candidate, reason);
  }
  fail(ErrorCode::device,
       "{} could not be opened. {}\nLooked for, in this order (names without a folder by the dynamic linker: "
       "LD_LIBRARY_PATH, then the system's folders):{}",
       search.what, search.advice, tried);
}

void* SharedLibrary::find(const char* symbol) const { return dlsym(handle_, symbol); }

}  // namespace tilewise::jit
