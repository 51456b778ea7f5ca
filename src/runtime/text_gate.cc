#include "runtime/text_gate.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace tilewise::runtime {
namespace {

/// Bytes of the longest end of `text` that is a beginning of `word`, but not all of it.
std::size_t begun(std::string_view text, std::string_view word) {
  std::size_t size = std::min(text.size(), word.size() - 1);
  while (size > 0 && text.substr(text.size() - size) != word.substr(0, size)) --size;
  return size;
}

}  // namespace

std::string TextGate::add(std::string_view text) {
  if (stopped_) return "";
  held_ += text;
  // The one that is complete first, whatever else the same piece brings.
  std::size_t end = std::string::npos, begin = 0;
  for (const std::string& word : stop_) {
    const std::size_t found = held_.find(word);
    if (found == std::string::npos) continue;
    const std::size_t found_end = found + word.size();
    if (found_end < end || (found_end == end && found < begin)) std::tie(begin, end) = std::pair(found, found_end);
  }
  if (end != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, "").substr(0, begin);
  }
  std::size_t kept = 0;
  for (const std::string& word : stop_) kept = std::max(kept, begun(held_, word));
  std::string out = held_.substr(0, held_.size() - kept);
  held_.erase(0, out.size());
  return out;
}

std::string TextGate::finish() { return stopped_ ? "" : std::exchange(held_, ""); }

}  // namespace tilewise::runtime
