#include "cuda/launch/choice.h"

#include <fmt/format.h>

namespace tilewise::cuda {
namespace {

const char* pages_name(int multiple) {
  switch (multiple) {
    case 16: return "pages of sixteens";
    case 8: return "pages of eights";
    default: return "pages";
  }
}

}  // namespace

std::string choice_name(const jit::DeviceInfo& device, const char* kernel, const ForwardShape& shape, bool has_scores) {
  std::string name =
      fmt::format("{}, {}, {} {}/{}", device.name, kernel, to_string(shape.dtype), shape.d_qk, shape.d_v);
  const auto add = [&](bool has, const char* what) {
    if (has) name += fmt::format(", {}", what);
  };
  add(has_scores, "scores"), add(shape.has_lists, shape.has_small_parts ? "lists of small parts" : "lists");
  add(shape.has_dropout, "dropout");
  add(shape.has_max_score, "max_score"), add(shape.is_paged, pages_name(shape.page_multiple));
  add(shape.values_in_keys, "v in k"), add(shape.has_gradients, "gradients");
  add(shape.is_deterministic, "deterministic"), add(!shape.is_aligned, "rows not aligned");
  add(shape.short_keys > 0, fmt::format("up to {} keys", shape.short_keys).c_str());
  return name;
}

}  // namespace tilewise::cuda
