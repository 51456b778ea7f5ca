// What the tests on a GPU share.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "jit/context.h"
#include "jit/nvrtc.h"
#include "tilewise/error.h"

namespace tilewise::jit {

/// Tests on GPU 0: skipped, saying why, without a GPU and NVRTC, but failed where TILEWISE_REQUIRE_GPU is set.
class WithGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      Nvrtc::instance();
      context_ = std::make_shared<Context>(Driver::instance(), 0);
    } catch (const Error& error) {
      if (std::getenv("TILEWISE_REQUIRE_GPU") != nullptr) FAIL() << error.what();
      GTEST_SKIP() << "no kernel runs here: " << error.what();
    }
  }

  std::shared_ptr<const Context> context_;
};

/// An array of T on the GPU.
template <class T>
class DeviceArray {
 public:
  DeviceArray(const Context& context, const std::vector<T>& values) : context_(context), size_(values.size()) {
    const CurrentContext current(context_);
    const Driver& driver = context_.driver();
    driver.check(driver.api().memory_allocate(&pointer_, size_ * sizeof(T)), "to allocate memory");
    driver.check(driver.api().copy_to_device(pointer_, values.data(), size_ * sizeof(T)), "to copy to the GPU");
  }
  ~DeviceArray() {
    const CurrentContext current(context_);
    context_.driver().api().memory_free(pointer_);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  DevicePointer pointer() const { return pointer_; }

  /// The values, once all kernels on the default stream are done.
  std::vector<T> values() const {
    const CurrentContext current(context_);
    const Driver& driver = context_.driver();
    driver.check(driver.api().stream_synchronize(nullptr), "to run a kernel");
    std::vector<T> values(size_);
    driver.check(driver.api().copy_to_host(values.data(), pointer_, size_ * sizeof(T)), "to copy from the GPU");
    return values;
  }

 private:
  const Context& context_;
  std::size_t size_ = 0;
  DevicePointer pointer_ = 0;
};

}  // namespace tilewise::jit
