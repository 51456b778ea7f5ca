#include "jit/context.h"

namespace tilewise::jit {

Context::Context(const Driver& driver, int ordinal) : driver_(driver), device_(describe_device(driver, ordinal)) {
  driver.check(driver.api().device_get(&device_handle_, ordinal), "to find the GPU");
  driver.check(driver.api().primary_context_retain(&handle_, device_handle_), "to open the GPU's context");
}

Context::~Context() { driver_.api().primary_context_release(device_handle_); }

CurrentContext::CurrentContext(const Context& context) : context_(context) {
  const Driver& driver = context.driver();
  // The usual case is a thread that stays on one GPU; asking costs less than pushing.
  ContextHandle current = nullptr;
  driver.check(driver.api().context_get_current(&current), "to name the current context");
  if (current == context.handle()) return;
  driver.check(driver.api().context_push(context.handle()), "to make the GPU's context current");
  pushed_ = true;
}

CurrentContext::~CurrentContext() {
  ContextHandle popped = nullptr;
  if (pushed_) context_.driver().api().context_pop(&popped);
}

}  // namespace tilewise::jit
