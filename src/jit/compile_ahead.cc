#include "jit/compile_ahead.h"

#include <exception>
#include <system_error>
#include <utility>

namespace tilewise::jit {

CompileAhead::CompileAhead(Compiler& compiler, std::vector<Make> programs) {
  for (Make& make : programs) {
    try {
      running_.push_back(std::async(std::launch::async, [&compiler, make = std::move(make)] {
        try {
          compiler.get(make());
        } catch (const std::exception&) {
          // Whoever asks for it is told.
        }
      }));
    } catch (const std::system_error&) {
      return;  // no thread to be had: the rest is compiled when it is asked for
    }
  }
}

}  // namespace tilewise::jit
