// Text tables with aligned columns.
#pragma once

#include <string>
#include <vector>

namespace tilewise::cli {

/// Rows of cells under a header. The first column is set to the left, all others, which hold numbers, to the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  /// Lines, each with its line end. Cells that a row lacks are blank.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// 1234567 as "1,234,567".
std::string grouped(std::int64_t number);

/// Bytes with a binary unit: "1.50 MiB".
std::string bytes_text(double bytes);

/// Seconds with a decimal unit, three digits: "12.3 ms".
std::string seconds_text(double seconds);

/// A sequence length: "128", "64k" (1k is 1024).
std::string length_text(double length);

}  // namespace tilewise::cli
