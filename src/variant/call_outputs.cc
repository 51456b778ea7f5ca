#include "variant/call_outputs.h"

#include <string>

#include "core/fail.h"
#include "core/shared_memory.h"
#include "variant/call_tensors.h"

namespace tilewise::variant {
namespace {

/// What an error would call an argument.
struct Name {
  const char* what;
  const std::string* handle = nullptr;

  std::string text() const { return handle == nullptr ? what : fmt::format("{} '{}'", what, *handle); }
};

template <class Tensor, class Visit>
void visit_given(const char* name, const std::optional<Tensor>& tensor, const Visit& visit) {
  if (tensor) visit(Name{name}, *tensor);
}

/// Each of these calls visit(name, tensor) for every tensor.
template <class Visit>
void for_each_tensor(const ForwardInputs& inputs, const Visit& visit) {
  visit(Name{"q"}, inputs.q);
  visit(Name{"k"}, inputs.k);
  visit(Name{"v"}, inputs.v);
  visit_given("q_scales", inputs.q_scales, visit);
  visit_given("k_scales", inputs.k_scales, visit);
  visit_given("v_scales", inputs.v_scales, visit);
  visit_given("block_table", inputs.block_table, visit);
  visit_given("device_seed", inputs.device_seed, visit);
  if (inputs.device_sequences) {
    for (const auto& [name, column] : kSequenceColumns) visit_given(name, (*inputs.device_sequences).*column, visit);
  }
  for (const auto& [table, data] : inputs.tables) visit(Name{"table", &table.name()}, data);
}

template <class Visit>
void for_each_tensor(const BackwardInputs& given, const Visit& visit) {
  visit_given("o", given.o, visit);
  visit_given("lse", given.lse, visit);
  visit(Name{"d_o"}, given.d_o);
  visit_given("d_lse", given.d_lse, visit);
}

template <class Visit>
void for_each_tensor(const ForwardOutputs& outputs, const Visit& visit) {
  visit(Name{"o"}, outputs.o);
  visit_given("lse", outputs.lse, visit);
  visit_given("max_score", outputs.max_score, visit);
}

template <class Visit>
void for_each_tensor(const BackwardOutputs& outputs, const Visit& visit) {
  visit_given("d_q", outputs.d_q, visit);
  visit_given("d_k", outputs.d_k, visit);
  visit_given("d_v", outputs.d_v, visit);
  for (const auto& [table, gradient] : outputs.d_tables) visit(Name{"the gradient of table", &table.name()}, gradient);
  for (const auto& [parameter, gradient] : outputs.d_parameters)
    visit(Name{"the gradient of parameter", &parameter.name()}, gradient);
}

template <class Outputs, class... Read>
void expect_apart(const Outputs& outputs, const Read&... read) {
  int at = 0;
  for_each_tensor(outputs, [&](const Name& name, const ConstTensor& output) {
    const auto expect_apart_from = [&](const Name& other, const ConstTensor& tensor) {
      if (share_memory(output, tensor)) {
        fail_argument("{} shares memory with {}; expected memory of its own, for it is written while others are in use",
                      name.text(), other.text());
      }
    };
    int before = at++;  // of the outputs, those that have been compared with this one
    for_each_tensor(outputs, [&](const Name& other, const ConstTensor& tensor) {
      if (before-- < 0) expect_apart_from(other, tensor);
    });
    (for_each_tensor(read, expect_apart_from), ...);
  });
}

}  // namespace

void check_own_memory(const ForwardInputs& inputs, const ForwardOutputs& outputs) { expect_apart(outputs, inputs); }

void check_own_memory(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs) {
  expect_apart(outputs, inputs, given);
}

}  // namespace tilewise::variant
