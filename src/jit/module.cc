#include "jit/module.h"

#include "core/fail.h"
#include "jit/driver_error.h"

namespace tilewise::jit {
namespace {

std::string in_words(const std::array<unsigned, 3>& extents) {
  return fmt::format("{} x {} x {}", extents[0], extents[1], extents[2]);
}

// Whether a compiler is at hand and another one made the binary.
bool made_elsewhere(const Binary& binary, const Compiler& compiler) {
  try {
    return binary.compiler != compiler.identity();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void Kernel::expect_fits(const LaunchShape& shape) const {
  if (shape.dynamic_shared_bytes <= dynamic_shared_limit_) return;
  fail_argument("shape.dynamic_shared_bytes is {} for {}, which was taken from its module with {}",
                shape.dynamic_shared_bytes, name_, dynamic_shared_limit_);
}

void Kernel::launch(const LaunchShape& shape, void** arguments) const {
  expect_fits(shape);
  std::array<LaunchAttribute, 2> attributes;
  unsigned attribute_count = 0;
  // Before 9.0 the driver refuses both attributes, even with a cluster of one block.
  if (shape.cluster != std::array<unsigned, 3>{1, 1, 1}) {
    attributes[attribute_count].id = LaunchAttribute::kClusterDimension;
    attributes[attribute_count++].value.cluster = shape.cluster;
  }
  if (shape.begins_early) {
    attributes[attribute_count].id = LaunchAttribute::kProgrammaticSerialization;
    attributes[attribute_count++].value.begins_early = 1;
  }
  LaunchConfig config{};
  config.grid = shape.grid;
  config.block = shape.block;
  config.dynamic_shared_bytes = shape.dynamic_shared_bytes;
  config.stream = shape.stream;
  config.attributes = attributes.data();
  config.attribute_count = attribute_count;

  const Driver& driver = module_->context().driver();
  const CurrentContext current(module_->context());
  const DriverResult result = driver.api().launch_kernel(&config, function_, arguments, nullptr);
  if (result == 0) return;
  driver.fail(result, fmt::format("to launch {} (grid {}, block {}, cluster {}, {} bytes of dynamic shared memory)",
                                  name_, in_words(shape.grid), in_words(shape.block), in_words(shape.cluster),
                                  shape.dynamic_shared_bytes));
}

int Kernel::attribute(FunctionAttribute which) const {
  const Driver& driver = module_->context().driver();
  const CurrentContext current(module_->context());
  int value = 0;
  driver.check(driver.api().function_get_attribute(&value, which, function_), "to describe a kernel");
  return value;
}

Module::Module(std::shared_ptr<const Context> context, std::shared_ptr<const Binary> binary)
    : context_(std::move(context)), binary_(std::move(binary)) {
  const Driver& driver = context_->driver();
  const CurrentContext current(*context_);
  const DriverResult result = driver.api().module_load_data(&handle_, binary_->cubin.data());
  if (result == 0) return;
  driver.fail(result,
              fmt::format("to load code that {} made for {} on {} (compute capability {}.{})", binary_->compiler,
                          binary_->architecture, context_->device().name, context_->device().compute_capability_major,
                          context_->device().compute_capability_minor));
}

std::shared_ptr<const Module> Module::load(std::shared_ptr<const Context> context,
                                           std::shared_ptr<const Binary> binary) {
  return std::shared_ptr<const Module>(new Module(std::move(context), std::move(binary)));
}

Module::~Module() {
  // A destructor has nobody to tell: after a lost device, say, there is nothing left to unload.
  const DriverApi& api = context_->driver().api();
  ContextHandle previous = nullptr;
  if (api.context_push(context_->handle()) != 0) return;
  api.module_unload(handle_);
  api.context_pop(&previous);
}

Kernel Module::kernel(const std::string& name, unsigned dynamic_shared_bytes) const {
  const KernelInfo& info = binary_->kernel(name);
  const Driver& driver = context_->driver();
  const CurrentContext current(*context_);
  Kernel kernel;
  kernel.module_ = shared_from_this();
  kernel.name_ = name;
  kernel.dynamic_shared_limit_ = dynamic_shared_bytes;
  driver.check(driver.api().module_get_function(&kernel.function_, handle_, info.symbol.c_str()), "to find a kernel");

  const std::int64_t fixed = kernel.attribute(FunctionAttribute::static_shared_bytes);
  const std::int64_t most = context_->device().shared_bytes_per_block;
  if (fixed + dynamic_shared_bytes > most) {
    fail_argument("dynamic_shared_bytes is {} for {}, which has {} static bytes; a block of {} can have {} in all",
                  dynamic_shared_bytes, name, fixed, context_->device().name, most);
  }
  // The driver's limit is set as high as it goes, not to this one: it belongs to the function, of which there may be
  // several Kernels, and does not by itself cost anything.
  if (dynamic_shared_bytes > 0) {
    driver.check(driver.api().function_set_attribute(kernel.function_, FunctionAttribute::max_dynamic_shared_bytes,
                                                     static_cast<int>(most - fixed)),
                 "to set aside shared memory for a kernel");
  }
  return kernel;
}

std::shared_ptr<const Module> load_program(Compiler& compiler, const Program& program,
                                           std::shared_ptr<const Context> context) {
  const std::shared_ptr<const Binary> binary = compiler.get(program);
  try {
    return Module::load(context, binary);
  } catch (const DriverError& error) {
    if (error.failure() != DriverFailure::wrong_binary || !made_elsewhere(*binary, compiler)) throw;
  }
  return Module::load(std::move(context), compiler.rebuild(program));
}

}  // namespace tilewise::jit
