// Shared libraries that Tilewise opens at run time, so that it builds and starts where they are absent.
#pragma once

#include <string>
#include <vector>

namespace tilewise::jit {

/// What to look for, and what to say when it is not there.
struct LibrarySearch {
  std::string what;                     // "NVRTC, the CUDA run-time compiler": begins the error
  std::vector<std::string> candidates;  // file names (found by the dynamic linker) or paths, in the order tried
  std::vector<const char*> required;    // symbols without which a candidate is passed over, as too old or not the one
  std::string advice;                   // ends the error: what the user can do
};

/// An opened library. It is never closed: NVRTC and the driver keep threads and exit handlers of their own, so taking
/// their code away again is unsafe. Copies are handles to the same library.
class SharedLibrary {
 public:
  /// Opens the first candidate that loads and has every required symbol. Throws Error(device) listing each candidate
  /// with the reason it did not serve.
  static SharedLibrary open_first(const LibrarySearch& search);

  /// The file that was opened, as the dynamic linker names it.
  const std::string& path() const { return path_; }

  /// Sets `function` to the symbol's address, or to null where the library does not have it.
  template <class Function>
  void bind(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(find(symbol));
  }

 private:
  void* find(const char* symbol) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace tilewise::jit
