// Which of several candidates was measured to be the fastest on this machine: names and texts, kept in a file of the
// cache's folder.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "jit/disk_cache.h"

namespace tilewise::jit {

/// A choice that was asked for: what it is about, and what there is to choose from, the default first.
struct Choice {
  std::string what;
  std::vector<std::string> candidates;
};

/// Choices by name. A file that is missing or damaged only loses them: then the first candidate is chosen. Safe for any
/// number of threads; processes that keep choices at the same time may lose one another's.
class Choices {
 public:
  explicit Choices(DiskCacheOptions options) : options_(std::move(options)) {}

  /// Those of the environment's cache folder.
  static Choices& instance();

  /// The index of the candidate that was kept under the name, in the folder or else in one that is only read; 0 where
  /// there is none, or it is no candidate any more. A ChoiceTrial of this thread is told, and may decide.
  std::size_t choose(const Choice& choice);

  /// Keeps a candidate. Returns "", or why it will be forgotten with this process.
  std::string keep(const std::string& what, const std::string& candidate);

 private:
  void read_once();

  DiskCacheOptions options_;
  std::mutex mutex_;
  bool is_read_ = false;
  std::map<std::string, std::string> shipped_, kept_;  // candidates by name
};

/// While it lives, choices that this thread asks for are noted, and the one of a name falls on a candidate. One at a
/// time.
class ChoiceTrial {
 public:
  explicit ChoiceTrial(std::string what = "", std::string candidate = "");
  ~ChoiceTrial();
  ChoiceTrial(const ChoiceTrial&) = delete;
  ChoiceTrial& operator=(const ChoiceTrial&) = delete;

  /// Each name once, in the order of the asking.
  const std::vector<Choice>& asked() const { return asked_; }

 private:
  friend class Choices;
  std::string what_, candidate_;
  std::vector<Choice> asked_;
};

}  // namespace tilewise::jit
