// Tests against a driver of our own that has no GPU: its library is TILEWISE_FAKE_DRIVER.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "tests/jit/fake_driver.h"

namespace tilewise::jit {

class WithFakeDriver : public ::testing::Test {
 protected:
  void SetUp() override {
    void* library = dlopen(TILEWISE_FAKE_DRIVER, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    fake_ = reinterpret_cast<FakeDriver* (*)()>(dlsym(library, "fake_driver"))();
    *fake_ = FakeDriver();
  }

  FakeDriver* fake_ = nullptr;
};

}  // namespace tilewise::jit
