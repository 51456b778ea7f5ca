// The rule of exactness over calls that are judged together.
#pragma once

#include <map>
#include <string>

#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {

/// The distance between 1 and the next larger number.
double ulp_of(DType dtype);

/// What a call's outputs are off by, each with what the rule of exactness makes of it.
class Verdict {
 public:
  /// Adds an output of a call: see Judged.
  void add(const std::string& name, const Errors& errors, double factor, DType dtype, double slack = 0);

  /// What breaks the rule, or nothing.
  std::string text() const;

 private:
  /// error <= factor * standard attention's + slack.
  struct Judged {
    Errors errors;
    double factor = 0, slack = 0;
  };
  std::map<std::string, Judged> outputs_;
};

}  // namespace tilewise::attention::testing
