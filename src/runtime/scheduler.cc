#include "runtime/scheduler.h"

#include <algorithm>
#include <chrono>

#include "core/fail.h"

namespace tilewise::runtime {
namespace {

constexpr std::size_t kMostEnded = 1024;  // accounts that are kept

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Scheduler::Scheduler(StepModel& model, KvCache& cache, Executor& executor, const SchedulerLimits& limits,
                     Language language)
    : model_(&model),
      cache_(&cache),
      executor_(&executor),
      limits_(limits),
      language_(std::move(language)),
      unseen_(model.variant(), model.shape().h_q, model.shape().h_kv, cache.shape().page_tokens),
      samplers_(static_cast<std::size_t>(executor.workers())) {
  if (model.shape().is_rotary) reach_ = reach_of(unseen_, model.shape().context, cache.shape().page_tokens);
}

std::vector<TokenEvent> Scheduler::step() {
  events_.clear();
  planned_.clear();
  prompt_tokens_ = 0;
  end_cancelled();
  const double begin = seconds_now();
  try {
    plan_tokens();
    plan_prompts();
    compute();
  } catch (...) {
    // What was appended and not written cannot be taken back: all begin again, and no token is lost.
    while (!running_.empty()) preempt(*running_.back());
    throw;
  }
  for (const Planned& planned : planned_) settle(planned);
  const std::int64_t before = account_.generated_tokens;
  choose_tokens();
  retire_finished();
  if (!planned_.empty()) {
    ++account_.steps;
    if (prompt_tokens_ == 0) account_.generate_tokens += account_.generated_tokens - before;
    (prompt_tokens_ > 0 ? account_.prompt_seconds : account_.generate_seconds) += seconds_now() - begin;
  }
  return std::exchange(events_, {});
}

void Scheduler::compute() {
  if (planned_.empty()) return;
  std::vector<nn::Chunk> chunks;
  for (const Planned& planned : planned_) {
    const auto tokens = std::span<const std::int32_t>(planned.sequence->tokens)
                            .subspan(static_cast<std::size_t>(planned.first), static_cast<std::size_t>(planned.count));
    chunks.push_back({*planned.sequence->cached, tokens, planned.first,
                      planned.wants_logits() ? nn::Logits::last : nn::Logits::none});
  }
  const auto rows = static_cast<std::size_t>(std::ranges::count_if(planned_, &Planned::wants_logits));
  const std::size_t needed = rows * static_cast<std::size_t>(model_->shape().vocabulary);
  if (logits_.size() < needed) logits_.resize(needed);
  model_->forward(chunks, *cache_, logits_.data());
}

/// Enters what was computed into the books, offers full pages to others, and gives up what nobody will look at.
void Scheduler::settle(const Planned& planned) {
  SampleSequence& sequence = *planned.sequence;
  account_.computed_tokens += planned.count;
  account_.recomputed_tokens += std::clamp<std::int64_t>(sequence.most_computed - planned.first, 0, planned.count);
  sequence.computed = planned.first + planned.count;
  const std::int64_t page_tokens = cache_->shape().page_tokens;
  const std::int64_t full = sequence.computed / page_tokens, before = planned.first / page_tokens;
  if (full == before) return;
  if (!sequence.live.empty() && sequence.live.back().end == before) {
    sequence.live.back().end = full;
  } else {
    sequence.live.push_back({before, full});
  }
  cache_->commit(*sequence.cached);
  give_up_unseen(*planned.task, sequence);
}

void Scheduler::give_up_unseen(const Task& task, SampleSequence& sequence) {
  const std::int64_t until =
      reach_.past_context ? task.most_tokens() : std::min(task.most_tokens(), model_->shape().context);
  // What follows the last query is nobody's to see, but may be the beginning of another's prompt: it goes with the
  // sequence.
  if (sequence.computed >= until) return;
  std::vector<PageRange> live;
  for (const PageRange& range : sequence.live) {
    std::int64_t begin = range.begin;
    for (const PageRange& hole : unseen_.find(range, sequence.computed, until)) {
      cache_->drop_pages(*sequence.cached, hole.begin, hole.end - hole.begin);
      if (begin < hole.begin) live.push_back({begin, hole.begin});
      begin = hole.end;
    }
    if (begin < range.end) live.push_back({begin, range.end});
  }
  sequence.live = std::move(live);
}

// ---- tokens ----

void Scheduler::fork(Task& task) {
  task.is_forked = true;
  SampleSequence& lead = task.sequences.front();
  // submit() has reserved room for all, so that planned_ stays valid.
  for (std::int64_t sample = 1; sample < task.request.samples; ++sample) {
    task.sequences.push_back({.sample = sample,
                              .tokens = lead.tokens,
                              .text = SampleText(language_.tokenizer, task.request.stop),
                              .cached = cache_->fork(*lead.cached),
                              .computed = lead.computed,
                              .live = lead.live});
  }
}

void Scheduler::choose_tokens() {
  struct Choice {
    Task* task;
    std::size_t sequence;
    std::size_t row;
    std::optional<std::int32_t> token{};
    double log_probability = 0;
  };
  std::vector<Choice> choices;
  std::size_t row = 0;
  for (const Planned& planned : planned_) {
    if (planned.sequence->pending() > 0) continue;
    Task& task = *planned.task;
    const auto index = static_cast<std::size_t>(planned.sequence - task.sequences.data());
    choices.push_back({&task, index, row});
    if (!task.is_forked) {
      for (std::int64_t i = 1; i < task.request.samples; ++i) {
        choices.push_back({&task, static_cast<std::size_t>(i), row});
      }
      fork(task);
    }
    ++row;
  }
  const auto vocabulary = static_cast<std::size_t>(model_->shape().vocabulary);
  executor_->parallel_for(static_cast<std::int64_t>(choices.size()), [&](std::int64_t i, int worker) {
    Choice& choice = choices[static_cast<std::size_t>(i)];
    const Request& request = choice.task->request;
    const SampleSequence& sequence = choice.task->sequences[choice.sequence];
    const auto logits = std::span<const float>(logits_).subspan(choice.row * vocabulary, vocabulary);
    const auto place = static_cast<std::int64_t>(sequence.tokens.size()) - choice.task->prompt_tokens();
    choice.token = samplers_[static_cast<std::size_t>(worker)].choose(request.sampling, sequence.sample, logits,
                                                                      sequence.tokens, place);
    if (request.log_probabilities && choice.token) {
      choice.log_probability = log_probability(logits, *choice.token);
    }
  });
  for (const Choice& choice : choices) {
    take(*choice.task, choice.task->sequences[choice.sequence], choice.token, choice.log_probability);
  }
}

bool Scheduler::ends(std::int32_t token) const {
  return std::ranges::find(language_.end_tokens, token) != language_.end_tokens.end();
}

void Scheduler::take(Task& task, SampleSequence& sequence, std::optional<std::int32_t> token, double log_probability) {
  if (!token) return end(task, sequence, {.text = sequence.text.finish(), .finish = Finish::no_token});
  TokenEvent event{.token = *token, .log_probability = log_probability};
  ++account_.generated_tokens;
  ++task.account.generated_tokens;
  if (ends(*token) && !task.request.ignore_end) {
    event.text = sequence.text.finish();
    event.finish = Finish::end_token;
    return end(task, sequence, std::move(event));
  }
  sequence.tokens.push_back(*token);
  event.text = sequence.text.add(*token);
  const auto length = static_cast<std::int64_t>(sequence.tokens.size());
  if (sequence.text.stopped()) {
    event.finish = Finish::stop_string;
  } else if (length - task.prompt_tokens() == task.request.most_tokens) {
    event.finish = Finish::most_tokens;
  } else if (length > model_->shape().context && !reach_.past_context) {
    event.finish = Finish::context;
  }
  if (event.finish == Finish::none) {
    event.request = task.id;
    event.sample = sequence.sample;
    events_.push_back(std::move(event));
    return;
  }
  event.text += sequence.text.finish();
  end(task, sequence, std::move(event));
}

void Scheduler::end(Task& task, SampleSequence& sequence, TokenEvent event) {
  event.request = task.id;
  event.sample = sequence.sample;
  events_.push_back(std::move(event));
  release(sequence);
  sequence.is_finished = true;
}

// ---- requests that end ----

void Scheduler::cancel(RequestId request) {
  for (Tasks* tasks : {&running_, &waiting_}) {
    for (const auto& task : *tasks) {
      if (task->id == request) task->is_cancelled = true;
    }
  }
}

void Scheduler::cancel_all() {
  for (Tasks* tasks : {&running_, &waiting_}) {
    for (const auto& task : *tasks) task->is_cancelled = true;
  }
}

void Scheduler::end_cancelled() {
  for (Tasks* tasks : {&running_, &waiting_}) {
    for (const auto& task : *tasks) {
      if (!task->is_cancelled) continue;
      for (SampleSequence& sequence : task->sequences) {
        if (!sequence.is_finished) end(*task, sequence, {.text = sequence.text.finish(), .finish = Finish::cancelled});
      }
      // Samples that were not forked yet end as well.
      for (std::int64_t sample = 1; sample < task->request.samples && !task->is_forked; ++sample) {
        events_.push_back({.request = task->id, .sample = sample, .finish = Finish::cancelled});
      }
    }
  }
  retire_finished();
}

void Scheduler::retire_finished() {
  for (Tasks* tasks : {&running_, &waiting_}) {
    std::erase_if(*tasks, [this](const auto& task) {
      if (!task->is_finished()) return false;
      ended_.emplace(task->id, task->account);
      if (ended_.size() > kMostEnded) ended_.erase(ended_.begin());
      return true;
    });
  }
}

RequestAccount Scheduler::account(RequestId request) const {
  for (const Tasks* tasks : {&running_, &waiting_}) {
    for (const auto& task : *tasks) {
      if (task->id == request) return task->account;
    }
  }
  const auto found = ended_.find(request);
  if (found != ended_.end()) return found->second;
  fail_argument("request {} is not known; expected one that is under way, or among the last {} that ended",
                static_cast<std::int64_t>(request), kMostEnded);
}

GeneratorAccount Scheduler::account() const {
  GeneratorAccount account = account_;
  account.cache = cache_->account();
  return account;
}

}  // namespace tilewise::runtime
