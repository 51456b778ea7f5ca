// Which tokens the next step computes.
#include <algorithm>

#include "runtime/scheduler.h"

namespace tilewise::runtime {
namespace {

std::int64_t common_prefix(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

// ---- pages ----

bool Scheduler::moves_first_keys(const SampleSequence& sequence, std::int64_t count) const {
  return reach_.past_context && reach_.first_pages > 0 && sequence.computed + count > model_->shape().context;
}

std::int64_t Scheduler::pages_needed(const SampleSequence& sequence, std::int64_t count) const {
  const bool copies_first = moves_first_keys(sequence, count) && sequence.first_keys == nullptr;
  return cache_->pages_needed(*sequence.cached, count) + (copies_first ? reach_.first_pages : 0);
}

void Scheduler::prepare(SampleSequence& sequence, std::int64_t count) {
  if (moves_first_keys(sequence, count)) {
    const std::int64_t page_tokens = cache_->shape().page_tokens;
    if (sequence.first_keys == nullptr) {
      sequence.first_keys = model_->first_keys(*cache_, *sequence.cached, reach_.first_pages * page_tokens);
      cache_->make_private(*sequence.cached, 0, reach_.first_pages);
    }
    // The last query is at most context - 1 positions behind the first key; moves are made a page at a time.
    const std::int64_t over = sequence.computed + count - model_->shape().context;
    sequence.first_keys->move(*cache_, *sequence.cached, pages_of(over) * page_tokens);
  }
  cache_->append(*sequence.cached, std::span(sequence.tokens)
                                       .subspan(static_cast<std::size_t>(sequence.computed))
                                       .first(static_cast<std::size_t>(count)));
}

void Scheduler::release(SampleSequence& sequence) {
  if (sequence.cached) cache_->finish(*sequence.cached);
  sequence.cached.reset();
  sequence.most_computed = std::max(sequence.most_computed, sequence.computed);
  sequence.computed = 0;
  sequence.live.clear();
  sequence.first_keys.reset();
}

void Scheduler::preempt(Task& task) {
  std::erase_if(planned_, [&](const Planned& planned) {
    if (planned.task == &task && planned.is_prompt) prompt_tokens_ -= planned.count;
    return planned.task == &task;
  });
  for (SampleSequence& sequence : task.sequences) release(sequence);
  ++task.account.preemptions;
  ++account_.preemptions;
  const auto is_task = [&](const auto& held) { return held.get() == &task; };
  const auto place = std::ranges::find_if(waiting_, [&](const auto& held) { return held->id > task.id; });
  waiting_.splice(place, running_, std::ranges::find_if(running_, is_task));
  refused_at_ = -1;
}

/// The request that came last of those under way, if it came after `task` (null: any but the oldest).
Task* Scheduler::youngest_after(const Task* task) {
  if (running_.empty()) return nullptr;
  Task* youngest = running_.back().get();
  const Task* bound = task == nullptr ? running_.front().get() : task;
  return youngest->id > bound->id ? youngest : nullptr;
}

/// Ends a request that cannot hold more tokens though nobody else holds any.
void Scheduler::give_up_on(Task& task) {
  std::erase_if(planned_, [&](const Planned& planned) { return planned.task == &task; });
  for (SampleSequence& sequence : task.sequences) {
    if (!sequence.is_finished) end(task, sequence, {.text = sequence.text.finish(), .finish = Finish::cache});
  }
}

/// Takes the pages and plans the tokens; false where pages are missing that no younger request could give up.
bool Scheduler::plan(Task& task, SampleSequence& sequence, std::int64_t count, bool is_prompt) {
  while (pages_needed(sequence, count) > cache_->pages_available()) {
    Task* victim = youngest_after(&task);
    if (victim == nullptr) return false;
    preempt(*victim);
  }
  prepare(sequence, count);
  planned_.push_back({&task, &sequence, sequence.computed, count, is_prompt});
  return true;
}

// ---- one token for every sample ----

void Scheduler::plan_tokens() {
  // From the oldest on: whoever lacks pages takes them from the youngest, at last from itself.
  for (auto held = running_.begin(); held != running_.end();) {
    Task& task = **held;
    const auto wants_token = [](const SampleSequence& sequence) {
      return !sequence.is_finished && sequence.cached && sequence.pending() == 1;
    };
    bool has_room = true;
    for (SampleSequence& sequence : task.sequences) {
      if (has_room && wants_token(sequence)) has_room = plan(task, sequence, 1, false);
    }
    ++held;  // before the task may leave the list
    if (has_room) continue;
    // No younger one is left, so this is the last of the list.
    if (running_.front().get() == &task) {
      give_up_on(task);
    } else {
      preempt(task);
    }
  }
}

// ---- prompts ----

std::int64_t Scheduler::chunk_of(const SampleSequence& sequence) const {
  const auto all = static_cast<std::int64_t>(sequence.tokens.size());
  const std::int64_t chunk = most_chunk_tokens();
  return std::min(all, (sequence.computed / chunk + 1) * chunk) - sequence.computed;
}

bool Scheduler::is_prefix_under_way(const Task& task, const SampleSequence& sequence, const Task& other) const {
  if (task.request.domain != other.request.domain) return false;
  const std::int64_t page_tokens = cache_->shape().page_tokens;
  return std::ranges::any_of(other.sequences, [&](const SampleSequence& earlier) {
    // What was moved or given up is not offered to others.
    if (&earlier == &sequence || !earlier.cached || earlier.is_finished || earlier.first_keys) return false;
    const std::int64_t common = std::min<std::int64_t>(common_prefix(earlier.tokens, sequence.tokens),
                                                       static_cast<std::int64_t>(sequence.tokens.size()) - 1);
    return common / page_tokens * page_tokens > earlier.computed;
  });
}

bool Scheduler::must_wait(const Task& task, const SampleSequence& sequence) const {
  return std::ranges::any_of(running_, [&](const auto& other) { return is_prefix_under_way(task, sequence, *other); });
}

/// Gives the sequence what the cache has of it.
bool Scheduler::start(Task& task, SampleSequence& sequence) {
  if (must_wait(task, sequence)) return false;
  sequence.cached = cache_->start(sequence.tokens, task.request.domain);
  sequence.computed = cache_->length(*sequence.cached);
  sequence.live.clear();
  if (sequence.computed > 0) sequence.live = {{0, sequence.computed / cache_->shape().page_tokens}};
  return true;
}

/// False where the step takes no more prompts.
bool Scheduler::plan_prompts_of(Task& task) {
  for (SampleSequence& sequence : task.sequences) {
    const auto is_planned = [&](const Planned& planned) { return planned.sequence == &sequence; };
    if (sequence.is_finished || std::ranges::any_of(planned_, is_planned)) continue;
    if (!sequence.cached && !start(task, sequence)) return false;
    const std::int64_t count = chunk_of(sequence);
    if (prompt_tokens_ > 0 && prompt_tokens_ + count > limits_.chunk_tokens) return false;
    if (!plan(task, sequence, count, true)) {
      if (running_.size() == 1 && planned_.empty()) give_up_on(task);
      return false;
    }
    prompt_tokens_ += count;
    // The next prompt begins when this one is done, also where the step has room left: else it could be done first.
    if (count < sequence.pending()) return false;
  }
  return true;
}

void Scheduler::plan_prompts() {
  // Planning may pre-empt tasks at the end of the list.
  for (auto held = running_.begin(); held != running_.end(); ++held) {
    if (!plan_prompts_of(**held)) return;
  }
  admit();
}

/// Moves a waiting request among those under way if its pages can be had now; that takes nobody else's.
bool Scheduler::try_admit(Task& task) {
  const auto under_way = [this] {
    std::int64_t samples = 0;
    for (const auto& held : running_) samples += held->request.samples;
    return samples;
  };
  if (under_way() + task.request.samples > limits_.most_sequences) return false;
  if (!running_.empty() && refused_at_ >= 0 && cache_->pages_available() <= refused_at_) return false;
  SampleSequence& first = *std::ranges::find_if(task.sequences, [](const auto& each) { return !each.is_finished; });
  if (!start(task, first)) return false;
  // Room for all tokens that it has, and for the next of each sample.
  std::int64_t needed = task.request.samples;
  for (const SampleSequence& sequence : task.sequences) {
    if (sequence.is_finished) continue;
    const std::int64_t pages = pages_of_sequence(static_cast<std::int64_t>(sequence.tokens.size()));
    needed += std::max<std::int64_t>(pages - sequence.computed / cache_->shape().page_tokens, 0);
  }
  // The oldest of all takes what there is: submit() saw to it that it suffices.
  if (needed > cache_->pages_available() && !running_.empty()) {
    release(first);
    refused_at_ = cache_->pages_available();
    return false;
  }
  if (!task.was_admitted) {
    task.was_admitted = true;
    task.account.reused_tokens = first.computed;
    account_.prompt_tokens += task.prompt_tokens();
    account_.reused_tokens += first.computed;
  }
  return true;
}

void Scheduler::admit() {
  while (!waiting_.empty() && prompt_tokens_ < limits_.chunk_tokens && try_admit(*waiting_.front())) {
    refused_at_ = -1;
    running_.splice(running_.end(), waiting_, waiting_.begin());
    if (!plan_prompts_of(*running_.back())) return;
  }
}

}  // namespace tilewise::runtime
