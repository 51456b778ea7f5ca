#include "command.h"

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

}  // namespace tilewise::cli
