// Tests of every instruction set: those that this build or this processor lacks are listed, as skipped.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "cpu/select.h"

namespace tilewise::cpu::testing {

/// AMX's kernels with the tile registers emulated, on AVX512-BF16 vectors; null where the build has none.
const Kernels* emulated_amx_kernels();
/// And its decoding of int8 caches, on AVX512-VNNI vectors.
const Kernels* emulated_amx_code_kernels();

/// By name, a narrow form and kernels for int8 caches by their instruction set's and a suffix; a name that is no
/// instruction set's is that of the emulated AMX.
inline constexpr const char* kEachIsa[] = {"baseline",           "avx2",        "avx2_narrow",        "avx512",
                                           "avx512_narrow",      "avx512_vnni", "avx512_vnni_narrow", "avx512_bf16",
                                           "avx512_bf16_narrow", "amx",         "emulated_amx"};

class EachIsaTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string name = GetParam();
    const auto take = [&name](std::string_view suffix) {
      if (!name.ends_with(suffix)) return false;
      name.resize(name.size() - suffix.size());
      return true;
    };
    const bool narrow = take("_narrow"), codes = take("_codes");
    if (name != "emulated_amx") {
      kernels_ = kernels_for(isa_from_string(name), codes);
      if (kernels_ != nullptr && narrow) kernels_ = kernels_->narrow;
    } else if (kernels_for(Isa::avx512_bf16) != nullptr) {
      kernels_ = codes ? emulated_amx_code_kernels() : emulated_amx_kernels();
    }
    if (kernels_ == nullptr) GTEST_SKIP() << "no " << GetParam() << " here";
  }

  /// Kernels flush subnormal numbers for a while; their callers' numbers are theirs again.
  void TearDown() override {
    volatile float least = 0x1p-126f;
    EXPECT_EQ(least / 2, 0x1p-127f);
    least = 0x1p-127f;
    EXPECT_EQ(least * 2, 0x1p-126f);
  }

  const Kernels& tested() const { return *kernels_; }
  DType operand() const { return kernels_->operand; }

 private:
  const Kernels* kernels_ = nullptr;
};

inline std::string name_of(const ::testing::TestParamInfo<const char*>& info) { return info.param; }

}  // namespace tilewise::cpu::testing
