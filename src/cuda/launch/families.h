// The families of kernels, one for each generation of GPUs that has its own: a folder of device code, a plan and a row
// here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/launch/backward.h"
#include "cuda/launch/forward.h"

namespace tilewise::cuda {

/// What a kernel is made from.
struct Making {
  jit::Compiler& compiler;
  const std::shared_ptr<const jit::Context>& context;
  const Variant& variant;
  const ForwardShape& shape;
};

/// The first family's kernel that takes the shape on this GPU, the newest generation's first. Families that refused it
/// add "name: why" to `refusals`. Throws Error(unsupported) where none does, with all reasons; as jit::load_program.
std::unique_ptr<const ForwardRunner> make_forward(const Making& making, std::vector<std::string>& refusals);
std::unique_ptr<const BackwardRunner> make_backward(const Making& making, std::vector<std::string>& refusals);

/// The program of what these would make, without making it. Throws Error(unsupported) likewise.
jit::Program forward_program(const Making& making);
jit::Program backward_program(const Making& making);

/// The tile() of what these would make, without making it. Throws Error(unsupported) likewise.
ListTile forward_tile(const Making& making);
ListTile backward_tile(const Making& making);

/// What these would add to `refusals`, without making anything. Throws Error(unsupported) likewise.
std::vector<std::string> forward_refusals(const Making& making);
std::vector<std::string> backward_refusals(const Making& making);

}  // namespace tilewise::cuda
