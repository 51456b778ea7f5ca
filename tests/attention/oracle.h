// Calls of a plan, held to standard attention in float64 by the rule of exactness.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/reference/attention_data.h"
#include "tilewise/attention.h"

namespace tilewise::attention::testing {

/// Data for the tables and values for the parameters of a variant.
struct Bound {
  std::vector<TableBinding> tables;
  std::vector<ParameterBinding> parameters;
  std::vector<TableShape> shapes;                               // of the bound tables
  std::vector<std::shared_ptr<std::vector<std::byte>>> memory;  // of the tables' data
};

/// Random data: reals are normal, ints small and within the declared range, as many as fit the problem.
Bound bind_random(const Variant& variant, const Problem& problem, std::uint64_t seed);

/// Gradients of the real ones of them, in float64, NaN at first.
struct VariantOutputs {
  explicit VariantOutputs(const Bound& bound);

  std::vector<std::vector<double>> values;  // of `tables`, then of `parameters`
  std::vector<TableGradientBinding> tables;
  std::vector<ParameterGradientBinding> parameters;

  void add_to(BackwardOutputs& outputs) const {
    outputs.d_tables = tables;
    outputs.d_parameters = parameters;
  }
};

/// Differences from float64, of the plan's results and of standard attention's in the plan's dtype.
struct Errors {
  double largest = 0, square = 0, usual_largest = 0, usual_square = 0, magnitude = 0;
  std::int64_t count = 0;

  void add(double exact, double found, double usual);
  void add(const Errors& others);
};

/// What is compared: o, lse, the largest scores, d_q, d_k, d_v, and all tables' and parameters' gradients.
enum Quantity { kO, kLse, kMaxScore, kDQ, kDK, kDV, kDTable, kQuantities };

/// How a call reaches a plan. This one hands it the host's memory and a workspace full of NaN, and sees that nothing is
/// written behind that.
class Caller {
 public:
  virtual ~Caller() = default;
  virtual Device device() const { return Device::cpu(); }
  virtual void forward(const Plan& plan, const ForwardInputs& inputs, const ForwardOutputs& outputs);
  virtual void backward(const Plan& plan, const ForwardInputs& inputs, const BackwardInputs& given,
                        const BackwardOutputs& outputs);
};

/// Judges calls together: the largest of a handful of rounding errors is chance.
class Oracle {
 public:
  /// `backward`: gradients too. Keeps a reference to the caller, where one is given.
  Oracle(DType dtype, bool backward, Caller* caller = nullptr)
      : dtype_(dtype), backward_(backward), caller_(caller != nullptr ? *caller : own_caller_) {}

  /// Runs one call in all three ways. Throws what the plan throws.
  void run(const Variant& variant, const reference::Shape& shape, const Bound& bound, std::uint64_t seed,
           std::optional<double> scale = {});

  /// No error is larger than c times standard attention's, give or take two units in the last place of the largest
  /// output: c is 2 forward, 3 for gradients.
  void expect_close(const std::string& what) const { EXPECT_EQ(verdict(), "") << what; }

  /// What breaks that rule, a line each; empty where nothing does.
  std::string verdict() const;

  /// What to multiply q and k with.
  double deviation = 1;
  std::optional<double> dropout;
  bool deterministic = false;
  bool max_scores = false;  // asked for, and compared

 private:
  DType dtype_;
  bool backward_;
  Caller own_caller_;
  Caller& caller_;
  Errors errors_[kQuantities];
};

/// Shape of a plan for the data of a call.
PlanShape plan_shape(const reference::Shape& shape, DType dtype, bool backward, const Bound& bound);

/// Runs forward and, where it is planned, backward, with gradients of the variant's tables where they are given.
void run(const Plan& plan, reference::AttentionData& data, const VariantOutputs* gradients = nullptr);

/// Heads and sequences of a call on such data.
Problem problem_of(const reference::Shape& shape);

/// Sequences with gaps between them in packed storage: long and short, without queries, without keys, with offsets, and
/// with padding on the left, once of all keys.
std::vector<Sequence> uneven_sequences();

/// [b] sequences of equal lengths, padded.
reference::Shape uniform(std::int64_t b, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q, std::int64_t s_kv,
                         std::int64_t d_qk, std::int64_t d_v);

}  // namespace tilewise::attention::testing
