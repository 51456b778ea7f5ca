// Public calls on every instruction set that this machine has, not only on the one that plans would choose.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "core/isa.h"
#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {
namespace {

class EachIsa : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!why_unavailable(GetParam()).empty())
      GTEST_SKIP() << to_string(GetParam()) << ": " << why_unavailable(GetParam());
    if (const char* old = std::getenv("TILEWISE_ISA")) old_ = old;
    setenv("TILEWISE_ISA", to_string(GetParam()), 1);
  }
  void TearDown() override {
    if (old_.empty()) {
      unsetenv("TILEWISE_ISA");
    } else {
      setenv("TILEWISE_ISA", old_.c_str(), 1);
    }
  }

  /// What its products take.
  DType dtype() const { return GetParam() >= Isa::avx512_bf16 ? DType::bfloat16 : DType::float32; }

 private:
  std::string old_;
};

TEST_P(EachIsa, ComputesForwardAndBackward) {
  const reference::Shape shapes[] = {uniform(1, 2, 1, 1, 1, 8, 8),       uniform(2, 4, 2, 40, 40, 64, 64),
                                     uniform(1, 2, 2, 129, 257, 32, 48), uniform(1, 1, 1, 300, 77, 128, 128),
                                     uniform(1, 2, 1, 97, 400, 72, 40),  uniform(1, 1, 1, 800, 530, 16, 16)};
  const std::pair<const char*, Variant> variants[] = {
      {"plain", {}},
      {"causal", keep([](const At& at) { return at.query >= at.key; })},
      {"window with a soft cap", keep([](const At& at) { return abs(at.query - at.key) < 40; }) &
                                     score([](Expr s, const At&) { return 5 * tanh(s / 5); })}};
  std::mt19937_64 random(11);
  for (const auto& [name, variant] : variants) {
    for (const bool backward : {false, true}) {
      Oracle oracle(dtype(), backward);
      for (const reference::Shape& shape : shapes) {
        EXPECT_EQ(Attention(variant).plan(plan_shape(shape, dtype(), backward, {})).instruction_set(),
                  to_string(GetParam()));
        oracle.run(variant, shape, {}, random());
      }
      oracle.expect_close(std::string(name) + (backward ? ", backward" : ", forward"));
    }
  }
}

TEST_P(EachIsa, ExplainsWhatIsFaster) {
  const PlanShape shape = plan_shape(uniform(1, 1, 1, 64, 64, 64, 64), dtype(), false, {});
  const std::string text = Attention().plan(shape).explain();
  EXPECT_NE(text.find(std::string("instruction set ") + to_string(GetParam())), std::string::npos) << text;
  for (const Isa isa : available_isas()) {
    const std::string asked = std::string("cpu ") + to_string(isa) + ": TILEWISE_ISA asks for " + to_string(GetParam());
    EXPECT_EQ(text.find(asked) != std::string::npos, isa > GetParam()) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, EachIsa,
                         ::testing::Values(Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_vnni, Isa::avx512_bf16,
                                           Isa::amx),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace tilewise::attention::testing
