#include "jit/context.h"

#include <map>
#include <mutex>

namespace tilewise::jit {

Context::Context(const Driver& driver, int ordinal) : driver_(driver), device_(describe_device(driver, ordinal)) {
  driver.check(driver.api().device_get(&device_handle_, ordinal), "to find the GPU");
  driver.check(driver.api().primary_context_retain(&handle_, device_handle_), "to open the GPU's context");
}

Context::~Context() { driver_.api().primary_context_release(device_handle_); }

std::shared_ptr<const Context> shared_context(int ordinal) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<const Context>> contexts;
  const std::scoped_lock lock(mutex);
  std::weak_ptr<const Context>& held = contexts[ordinal];
  std::shared_ptr<const Context> context = held.lock();
  if (context == nullptr) held = context = std::make_shared<const Context>(Driver::instance(), ordinal);
  return context;
}

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
