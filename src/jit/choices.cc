#include "jit/choices.h"

#include <algorithm>

namespace tilewise::jit {
namespace {

constexpr const char* kFile = "/choices";  // a line each: name, tab, candidate
constexpr std::size_t kMostBytes = 1 << 20;

thread_local ChoiceTrial* trial = nullptr;

std::map<std::string, std::string> read_choices(const std::string& folder) {
  std::map<std::string, std::string> choices;
  std::string problem;
  const std::optional<std::string> bytes = folder.empty() ? std::nullopt : read_file(folder + kFile, problem);
  if (!bytes || bytes->size() > kMostBytes) return choices;
  for (std::size_t begin = 0; begin < bytes->size();) {
    const std::size_t end = std::min(bytes->find('\n', begin), bytes->size()), tab = bytes->find('\t', begin);
    if (tab < end) choices[bytes->substr(begin, tab - begin)] = bytes->substr(tab + 1, end - tab - 1);
    begin = end + 1;
  }
  return choices;
}

std::size_t index_of(const std::vector<std::string>& candidates, const std::string& candidate) {
  const auto found = std::ranges::find(candidates, candidate);
  return found == candidates.end() ? 0 : static_cast<std::size_t>(found - candidates.begin());
}

}  // namespace

Choices& Choices::instance() {
  static Choices choices(DiskCacheOptions::from_environment());
  return choices;
}

void Choices::read_once() {
  if (is_read_) return;
  for (const std::string& folder : options_.shipped) shipped_.merge(read_choices(folder));
  kept_ = read_choices(options_.folder);
  is_read_ = true;
}

std::size_t Choices::choose(const Choice& choice) {
  if (trial != nullptr) {
    const bool is_new = std::ranges::find(trial->asked_, choice.what, &Choice::what) == trial->asked_.end();
    if (is_new) trial->asked_.push_back(choice);
    if (trial->what_ == choice.what) return index_of(choice.candidates, trial->candidate_);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  read_once();
  for (const auto* choices : {&kept_, &shipped_}) {
    const auto found = choices->find(choice.what);
    if (found != choices->end()) return index_of(choice.candidates, found->second);
  }
  return 0;
}

std::string Choices::keep(const std::string& what, const std::string& candidate) {
  const std::lock_guard<std::mutex> lock(mutex_);
  read_once();
  kept_.merge(read_choices(options_.folder));  // what another process has kept since
  kept_[what] = candidate;
  if (options_.folder.empty()) return "none of TILEWISE_CACHE_DIR, XDG_CACHE_HOME and HOME names a folder";
  std::string text;
  for (const auto& [name, kept] : kept_) text += name + '\t' + kept + '\n';
  return publish_file(options_.folder + kFile, text, options_.calls);
}

ChoiceTrial::ChoiceTrial(std::string what, std::string candidate)
    : what_(std::move(what)), candidate_(std::move(candidate)) {
  trial = this;
}

ChoiceTrial::~ChoiceTrial() { trial = nullptr; }

}  // namespace tilewise::jit
