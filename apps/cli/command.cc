#include "command.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>
#include <utility>

#include "tilewise/error.h"

namespace tilewise::cli {

void write_out(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!written) throw Error(ErrorCode::io, "standard output: could not be written; the answer is incomplete");
}

Json json_number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

void add_answers(CLI::App& command, std::function<std::string()> answer_text, std::function<Json()> answer_json) {
  const auto as_json = std::make_shared<bool>(false);
  command.add_flag("--json", *as_json, "Answer in JSON, for scripts");
  command.callback([as_json, text = std::move(answer_text), json = std::move(answer_json)] {
    write_out(*as_json ? json_text(json(), 2) : text());
  });
}

CLI::Validator whole_number_from(std::uint64_t least) {
  const auto refusal = [least](const std::string& text) {
    std::uint64_t number = 0;
    const char* end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, number);
    if (error == std::errc() && last == end && number >= least) return std::string();
    return fmt::format("is {}; expected a whole number from {} on", text, least);
  };
  return {refusal, ""};
}

void expect(bool holds, const std::string& what) {
  if (!holds) throw Error(ErrorCode::invalid_argument, what);
}

void expect_lengths(const std::vector<std::int64_t>& lengths, std::int64_t most) {
  expect(!lengths.empty(), "--lengths is empty, expected at least one length");
  std::int64_t before = 0;
  for (const std::int64_t length : lengths) {
    expect(length >= 1 && length <= most, fmt::format("--lengths has {}, expected 1 to {}", length, most));
    expect(length > before, fmt::format("--lengths has {} behind {}, expected rising lengths", length, before));
    before = length;
  }
}

void expect_kernels_dtype(const std::string& dtype) {
  expect(dtype == "float32" || dtype == "float16" || dtype == "bfloat16",
         fmt::format("--dtype is {}, expected float32, float16 or bfloat16: what kernels take", dtype));
}

void expect_within(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  expect(value >= least && value <= most, fmt::format("{} is {}; expected {} to {}", name, value, least, most));
}

}  // namespace tilewise::cli
