// JSON from files that may hold anything: read by type, with errors that name the file and the place in it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tilewise::io {

/// A value in a document and where it stands: "model/vocab". Copies share the document.
class JsonValue {
 public:
  /// Parses text that lies at byte `offset` of the file. Throws Error(parse) naming path and byte: on malformed JSON,
  /// on a name that appears twice in an object (most parsers drop one in silence), on nesting deeper than 64.
  static JsonValue parse(std::string_view text, const std::string& path, std::uint64_t offset = 0);

  /// The member of an object. Throws Error(parse) where this is no object or has none of that name.
  JsonValue member(const std::string& name) const;

  /// Likewise; nullopt where it is missing or null.
  std::optional<JsonValue> find(const std::string& name) const;

  bool is_null() const { return value_->is_null(); }
  bool is_string() const { return value_->is_string(); }
  bool is_array() const { return value_->is_array(); }

  /// The value, which has that type, else Error(parse).
  const std::string& string() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t least, std::int64_t most) const;
  double real() const;

  /// Elements of an array.
  std::size_t size() const;
  JsonValue element(std::size_t index) const;

  /// Calls visit(name, value) for each member of an object.
  void for_each(const std::function<void(const std::string&, const JsonValue&)>& visit) const;

  /// Throws Error(parse): "<path>, <where>: <message>".
  [[noreturn]] void fail_here(const std::string& message) const;

  const std::string& path() const { return *path_; }
  const std::string& where() const { return where_; }

 private:
  JsonValue(std::shared_ptr<const nlohmann::json> document, std::shared_ptr<const std::string> path)
      : document_(std::move(document)), value_(document_.get()), path_(std::move(path)) {}
  JsonValue at(const nlohmann::json& value, const std::string& name) const;

  std::shared_ptr<const nlohmann::json> document_;
  const nlohmann::json* value_;
  std::shared_ptr<const std::string> path_;
  std::string where_;
};

}  // namespace tilewise::io
