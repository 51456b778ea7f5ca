// Linked into every test binary that holds laws: thousands of cases each.
//
// RapidCheck runs 100 cases of a property unless told otherwise. RC_PARAMS still decides; RapidCheck reads it when the
// first property runs, after this.
#include <cstdlib>
#include <string>

namespace {

[[maybe_unused]] const bool kThousandsOfCases = [] {
  const char* given = std::getenv("RC_PARAMS");  // NOLINT(concurrency-mt-unsafe): no thread runs yet
  const std::string parameters = given == nullptr ? "" : given;
  if (parameters.find("max_success") == std::string::npos) {
    setenv("RC_PARAMS", ("max_success=2000 " + parameters).c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  }
  return true;
}();

}  // namespace
