#include "io/json.h"

#include <set>
#include <vector>

#include "io/cursor.h"

namespace tilewise::io {
namespace {

using nlohmann::json;

constexpr int kMostNested = 64;

/// Watches the parser for what it would accept in silence.
class Watcher {
 public:
  Watcher(std::string_view path, std::uint64_t offset) : path_(path), offset_(offset) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMostNested) fail_at(ErrorCode::parse, path_, offset_, "JSON nested deeper than {}", kMostNested);
    if (event == json::parse_event_t::object_start) names_.emplace_back();
    if (event == json::parse_event_t::object_end) names_.pop_back();
    if (event == json::parse_event_t::key && !names_.back().insert(parsed.get_ref<const std::string&>()).second) {
      fail_at(ErrorCode::parse, path_, offset_, "the name '{}' appears twice in one JSON object",
              printable(parsed.get_ref<const std::string&>()));
    }
    return true;
  }

 private:
  std::string_view path_;
  std::uint64_t offset_;
  std::vector<std::set<std::string>> names_;  // of each object that is open
};

}  // namespace

JsonValue JsonValue::parse(std::string_view text, const std::string& path, std::uint64_t offset) {
  Watcher watcher(path, offset);
  try {
    auto document = std::make_shared<const json>(json::parse(
        text, [&](int depth, json::parse_event_t event, json& parsed) { return watcher(depth, event, parsed); }));
    return {std::move(document), std::make_shared<const std::string>(path)};
  } catch (const json::parse_error& error) {
    fail_at(ErrorCode::parse, path, offset + error.byte, "malformed JSON: {}", printable(error.what()));
  } catch (const json::exception& error) {
    fail_at(ErrorCode::parse, path, offset, "unreadable JSON: {}", printable(error.what()));
  }
}

JsonValue JsonValue::at(const json& value, const std::string& name) const {
  JsonValue found = *this;
  found.value_ = &value;
  found.where_ += (where_.empty() ? "" : "/") + printable(name);
  return found;
}

void JsonValue::fail_here(const std::string& message) const {
  fail(ErrorCode::parse, "{}, {}: {}", *path_, where_.empty() ? "top level" : where_, message);
}

std::optional<JsonValue> JsonValue::find(const std::string& name) const {
  if (!value_->is_object()) fail_here(fmt::format("is a JSON {}; expected an object", value_->type_name()));
  const auto found = value_->find(name);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return at(*found, name);
}

JsonValue JsonValue::member(const std::string& name) const {
  std::optional<JsonValue> found = find(name);
  if (!found) fail_here(fmt::format("'{}' is missing", name));
  return *std::move(found);
}

const std::string& JsonValue::string() const {
  if (!value_->is_string()) fail_here(fmt::format("is a JSON {}; expected a string", value_->type_name()));
  return value_->get_ref<const std::string&>();
}

bool JsonValue::boolean() const {
  if (!value_->is_boolean()) fail_here(fmt::format("is a JSON {}; expected true or false", value_->type_name()));
  return value_->get<bool>();
}

std::int64_t JsonValue::integer(std::int64_t least, std::int64_t most) const {
  const bool whole = value_->is_number_integer();
  const bool fits = whole && (!value_->is_number_unsigned() || value_->get<std::uint64_t>() <= INT64_MAX);
  if (!fits || value_->get<std::int64_t>() < least || value_->get<std::int64_t>() > most) {
    fail_here(fmt::format("is {}; expected an integer from {} to {}",
                          whole ? value_->dump() : std::string("a JSON ") + value_->type_name(), least, most));
  }
  return value_->get<std::int64_t>();
}

double JsonValue::real() const {
  if (!value_->is_number()) fail_here(fmt::format("is a JSON {}; expected a number", value_->type_name()));
  return value_->get<double>();
}

std::size_t JsonValue::size() const {
  if (!value_->is_array()) fail_here(fmt::format("is a JSON {}; expected an array", value_->type_name()));
  return value_->size();
}

JsonValue JsonValue::element(std::size_t index) const {
  if (index >= size()) fail_here(fmt::format("has {} elements; expected at least {}", size(), index + 1));
  return at((*value_)[index], std::to_string(index));
}

void JsonValue::for_each(const std::function<void(const std::string&, const JsonValue&)>& visit) const {
  if (!value_->is_object()) fail_here(fmt::format("is a JSON {}; expected an object", value_->type_name()));
  for (const auto& [name, value] : value_->items()) visit(name, at(value, name));
}

}  // namespace tilewise::io
