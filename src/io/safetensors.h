// safetensors: named tensors behind a header of JSON (the format's own README, github.com/huggingface/safetensors).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/mapped_file.h"
#include "io/storage.h"

namespace tilewise::io {

/// A safetensors file, mapped. Everything but the elements is checked when it is opened: names are unique, every shape
/// takes exactly the bytes that its offsets span, and the tensors fill the data without gap or overlap.
class SafetensorsFile {
 public:
  /// Throws Error(io) where the file cannot be read, Error(parse) naming path, place and tensor where it is malformed,
  /// and Error(unsupported) on another storage type.
  explicit SafetensorsFile(std::string path);

  const std::string& path() const { return file_.path(); }
  std::uint64_t bytes() const { return file_.bytes().size(); }

  /// What "__metadata__" holds, by name.
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }

  /// In the order of their offsets.
  const std::vector<FileTensor>& tensors() const { return tensors_; }

  /// Null where there is none of that name.
  const FileTensor* find_tensor(std::string_view name) const;

  /// Throws Error(parse) where there is none, naming path and tensor.
  const FileTensor& tensor(std::string_view name) const;

 private:
  MappedFile file_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::deque<std::string> names_;  // which the tensors' names refer to: a deque never moves its elements
  std::vector<FileTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace tilewise::io
