// Which families of kernels a GPU and its driver get; against a driver of our own that has no GPU.
#include "cuda/launch/families.h"

#include <fmt/format.h>

#include "tests/jit/with_fake_driver.h"
#include "tests/refusal.h"

namespace tilewise::cuda {
namespace {

class Families : public jit::WithFakeDriver {
 protected:
  /// What families say that do not take a GPU of that compute capability, forward and backward.
  std::vector<std::vector<std::string>> refusals(int compute_capability) {
    fake_->compute_capability = compute_capability;
    const jit::Driver driver = jit::Driver::open({TILEWISE_FAKE_DRIVER});
    const auto context = std::make_shared<const jit::Context>(driver, 1);
    const Making making{jit::Compiler::instance(), context, variant_, shape_};
    return {forward_refusals(making), backward_refusals(making)};
  }

  const Variant variant_;
  const ForwardShape shape_{.dtype = DType::bfloat16, .d_qk = 64, .d_v = 64};
};

TEST_F(Families, GpusOlderThanAmpereAreRefusedByName) {
  for (const int compute_capability : {61, 75}) {
    const std::string message = refusal([&] { refusals(compute_capability); }, ErrorCode::unsupported);
    EXPECT_NE(message.find(fmt::format("portable: Fake GPU 1 has compute capability {}.{}; GPUs from 8.0 (Ampere) on",
                                       compute_capability / 10, compute_capability % 10)),
              std::string::npos)
        << message;
  }
}

TEST_F(Families, HoppersKernelsAreForHopperAlone) {
  for (const int compute_capability : {80, 89, 100}) {
    for (const std::vector<std::string>& said : refusals(compute_capability)) {
      ASSERT_EQ(said.size(), 1U);
      EXPECT_NE(said[0].find("it is for 9.0 (Hopper)"), std::string::npos) << said[0];
    }
  }
}

}  // namespace
}  // namespace tilewise::cuda
