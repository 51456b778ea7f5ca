// What calls of a plan keep in a workspace besides memory: lists that grow once and are used again.
#pragma once

#include <memory>
#include <vector>

namespace tilewise::attention {

class Backend;

/// Of one plan; each backend has its own.
class CallState {
 public:
  virtual ~CallState() = default;
};

/// The states of the plans that a workspace was last used with.
class CallStates {
 public:
  /// The state that `make()` gave for this backend, made on first use. A state whose backend is gone is never found
  /// again, since states keep theirs alive.
  template <class State, class Make>
  State& of(const std::shared_ptr<const Backend>& backend, Make make) {
    for (Entry& entry : entries_) {
      if (entry.backend == backend) return static_cast<State&>(*entry.state);
    }
    if (entries_.size() == kMost) entries_.erase(entries_.begin());
    entries_.push_back({backend, make()});
    return static_cast<State&>(*entries_.back().state);
  }

 private:
  static constexpr std::size_t kMost = 32;  // a model's layers have a handful of plans
  struct Entry {
    std::shared_ptr<const Backend> backend;
    std::unique_ptr<CallState> state;
  };
  std::vector<Entry> entries_;
};

}  // namespace tilewise::attention
