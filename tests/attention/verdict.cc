#include "tests/attention/verdict.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace tilewise::attention::testing {

double ulp_of(DType dtype) {
  switch (dtype) {
    case DType::float64: return 0x1p-52;
    case DType::float32: return 0x1p-23;
    case DType::float16: return 0x1p-10;
    default: return 0x1p-7;
  }
}

void Verdict::add(const std::string& name, const Errors& errors, double factor, DType dtype, double slack) {
  Judged& judged = outputs_[name];
  judged.errors.add(errors);
  judged.factor = factor;
  judged.slack = std::max(judged.slack, 2 * ulp_of(dtype) * errors.magnitude + slack);
}

std::string Verdict::text() const {
  std::string text;
  for (const auto& output : outputs_) {
    const std::string& name = output.first;  // captured below, as structured bindings cannot be
    const Judged& of = output.second;
    if (of.errors.count == 0) continue;
    const auto compare = [&](const char* which, double found, double usual) {
      if (found <= of.factor * usual + of.slack) return;
      text += fmt::format("{}: {} error {:.3g}, standard attention's {:.3g}, slack {:.3g}, largest element {:.3g}\n",
                          name, which, found, usual, of.slack, of.errors.magnitude);
    };
    const auto rms = [&](double square) { return std::sqrt(square / static_cast<double>(of.errors.count)); };
    compare("largest", of.errors.largest, of.errors.usual_largest);
    compare("RMS", rms(of.errors.square), rms(of.errors.usual_square));
  }
  return text;
}

}  // namespace tilewise::attention::testing
