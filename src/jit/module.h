// Compiled programs on a GPU, and their launch.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "jit/compiler.h"
#include "jit/context.h"
#include "jit/program.h"

namespace tilewise::jit {

/// How a kernel is launched.
struct LaunchShape {
  std::array<unsigned, 3> grid{1, 1, 1};     // x, y, z: blocks
  std::array<unsigned, 3> block{1, 1, 1};    // x, y, z: threads
  std::array<unsigned, 3> cluster{1, 1, 1};  // x, y, z: blocks that share a cluster (9.0 and later); divides the grid
  unsigned dynamic_shared_bytes = 0;         // for each block
  StreamHandle stream = nullptr;             // of the module's GPU
  bool begins_early = false;                 // before the kernel in front of it has ended, for which it waits by itself
};

class Module;

/// A kernel that can be launched. A cheap copy that keeps its module loaded; const and shared between threads.
class Kernel {
 public:
  /// Queues the kernel on the stream and returns. `arguments` points to each argument, in the kernel's order and with
  /// its types. Throws DriverError, which may report an earlier kernel's failure; Error(invalid_argument) for more
  /// dynamic shared memory than the kernel was asked for with.
  void launch(const LaunchShape& shape, void** arguments) const;

  /// launch() with the arguments themselves.
  template <class... Arguments>
  void operator()(const LaunchShape& shape, Arguments... arguments) const {
    std::array<void*, sizeof...(Arguments) + 1> pointers = {&arguments..., nullptr};
    launch(shape, pointers.data());
  }

  /// One of its attributes, from the driver.
  int attribute(FunctionAttribute which) const;

  const std::string& name() const { return name_; }

 private:
  friend class Module;
  friend class KernelChain;
  Kernel() = default;

  void expect_fits(const LaunchShape& shape) const;

  std::shared_ptr<const Module> module_;
  FunctionHandle function_ = nullptr;
  std::string name_;
  unsigned dynamic_shared_limit_ = 0;  // bytes
};

/// A binary loaded on one GPU. Const and shared between threads.
class Module : public std::enable_shared_from_this<Module> {
 public:
  /// Throws DriverError: wrong_binary where this GPU or driver does not take the code, out_of_memory.
  static std::shared_ptr<const Module> load(std::shared_ptr<const Context> context,
                                            std::shared_ptr<const Binary> binary);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// The kernel that the program named so, allowed this much dynamic shared memory. Throws Error(invalid_argument) for
  /// a name that is not in the binary, or more shared memory than a block of this GPU can have.
  Kernel kernel(const std::string& name, unsigned dynamic_shared_bytes = 0) const;

  const Context& context() const { return *context_; }
  const Binary& binary() const { return *binary_; }

 private:
  Module(std::shared_ptr<const Context> context, std::shared_ptr<const Binary> binary);

  std::shared_ptr<const Context> context_;
  std::shared_ptr<const Binary> binary_;
  ModuleHandle handle_ = nullptr;
};

/// Gets the program's binary and loads it. A kept binary that the driver does not take, and that another compiler than
/// `compiler`'s own made, is compiled anew. Throws as Compiler::get and Module::load.
std::shared_ptr<const Module> load_program(Compiler& compiler, const Program& program,
                                           std::shared_ptr<const Context> context);

}  // namespace tilewise::jit
