// What a GPU's plan tells of itself.
#include <algorithm>

#include "attention/cuda_backend.h"
#include "attention/planned_mask.h"

namespace tilewise::attention {

/// Calls that families refuse which take the usual ones.
std::string CudaBackend::explain_refusals() const {
  using Refusals = std::vector<std::string> (*)(const cuda::Making&);
  std::string text;
  const auto add = [&](const char* direction, Refusals ask, const Form& form) {
    const auto of_usual = ask(making(kernel_shape({})));
    std::vector<std::string> of_form;
    try {
      of_form = ask(making(kernel_shape(form)));
    } catch (const Error& error) {
      text += fmt::format("{}, calls not taken: {}\n", direction, error.what());
      return;
    }
    for (const std::string& refusal : of_form) {
      if (std::ranges::find(of_usual, refusal) == of_usual.end())
        text += fmt::format("{}, calls not taken by {}\n", direction, refusal);
    }
  };
  const Form unaligned{.is_aligned = false};
  if (forward_) {
    for (const Form& form : {unaligned, Form{.is_paged = true}, Form{.has_max_score = true}})
      add("forward", cuda::forward_refusals, form);
  }
  if (backward_) {
    add("backward", cuda::backward_refusals, unaligned);
    if (binds_anything(variant())) add("backward", cuda::backward_refusals, {.has_gradients = true});
  }
  return text;
}

/// Of families that do not take the plan's usual calls of a direction.
void CudaBackend::note_refusals(const char* direction, const std::vector<std::string>& reasons) {
  for (const std::string& reason : reasons) refusals.push_back(fmt::format("{}, {}", direction, reason));
}

std::string CudaBackend::explain() const {
  std::string text = fmt::format("backend: {}, {}\n", device_.text(), context_->device().name);
  if (forward_) text += fmt::format("forward: {}\n", forward_->usual().text());
  if (backward_) text += fmt::format("backward: {}\n", backward_->usual().text());
  text += explain_refusals();
  if (decode_) text += fmt::format("decoding, up to {} queries: {}\n", kDecodeQueries, decode_->usual().text());
  if (decode_ && !forward_) {
    const auto plan = decode_plan({.values_in_keys = true});
    text += fmt::format("decoding, values in the first columns of keys: {}\n", plan.value().text());
  }
  text +=
      fmt::format("mask: {}\n", !lister_              ? "none"
                                : kept_lists_.empty() ? "tiles are classified on the GPU, before each kernel"
                                                      : "tiles are classified on the GPU, with the plan for its own "
                                                        "lengths, before each kernel for others");
  return text;
}

}  // namespace tilewise::attention
