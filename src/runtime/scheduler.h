// Many requests on one model and one cache: what each step computes (continuous batching: Yu et al., "Orca", 2022).
//
// A step is composed in this order:
//   1. One token for every sample that has one to compute. Where pages do not suffice, the request that came last gives
//      up its pages and waits again at its old place.
//   2. Chunks of prompts, in the order of requests, up to `chunk_tokens` in all. A chunk ends at a multiple of
//      `chunk_tokens` or at the prompt's end, whatever else is in the step, so that results do not depend on company.
//   3. Waiting requests are admitted in their order, as long as chunks and pages are left; none overtakes another.
// The oldest request is never pre-empted, and fits into the cache alone: so it ends, and then the next is the oldest.
//
// What a request has in common with one whose prompt is being computed, it waits for, and then finds in the cache.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "io/tokenizer/tokenizer.h"
#include "runtime/reach.h"
#include "runtime/sampler.h"
#include "runtime/sequence.h"
#include "runtime/step_model.h"
#include "tilewise/executor.h"
#include "tilewise/generate.h"

namespace tilewise::runtime {

struct SchedulerLimits {
  std::int64_t chunk_tokens = 512;
  std::int64_t most_sequences = 64;
};

/// What ends an answer, and how tokens read.
struct Language {
  const io::Tokenizer* tokenizer = nullptr;  ///< Null: events have no text.
  std::vector<std::int32_t> end_tokens{};
};

class Scheduler {
 public:
  /// All must outlive it.
  Scheduler(StepModel& model, KvCache& cache, Executor& executor, const SchedulerLimits& limits, Language language);

  // As tilewise/generate.h has them.
  RequestId submit(Request request);
  bool is_idle() const { return running_.empty() && waiting_.empty(); }
  std::vector<TokenEvent> step();
  void cancel(RequestId request);
  void cancel_all();
  RequestAccount account(RequestId request) const;
  GeneratorAccount account() const;

  const Reach& reach() const { return reach_; }

 private:
  using Tasks = std::list<std::unique_ptr<Task>>;

  struct Planned {
    Task* task;
    SampleSequence* sequence;
    std::int64_t first, count;
    bool is_prompt;
    bool wants_logits() const { return first + count == static_cast<std::int64_t>(sequence->tokens.size()); }
  };

  // ---- submission (scheduler_submit.cc) ----
  void expect_valid_request(const Request& request) const;
  std::int64_t pages_alone(const Request& request) const;
  std::int64_t pages_of(std::int64_t tokens) const;
  std::int64_t pages_of_sequence(std::int64_t tokens) const;
  std::int64_t most_chunk_tokens() const;

  // ---- composing a step (scheduler_plan.cc) ----
  void plan_tokens();
  void plan_prompts();
  bool plan_prompts_of(Task& task);
  void admit();
  bool try_admit(Task& task);
  bool start(Task& task, SampleSequence& sequence);
  bool must_wait(const Task& task, const SampleSequence& sequence) const;
  bool is_prefix_under_way(const Task& task, const SampleSequence& sequence, const Task& other) const;
  bool plan(Task& task, SampleSequence& sequence, std::int64_t count, bool is_prompt);
  std::int64_t pages_needed(const SampleSequence& sequence, std::int64_t count) const;
  bool moves_first_keys(const SampleSequence& sequence, std::int64_t count) const;
  void prepare(SampleSequence& sequence, std::int64_t count);
  std::int64_t chunk_of(const SampleSequence& sequence) const;
  Task* youngest_after(const Task* task);
  void preempt(Task& task);
  void release(SampleSequence& sequence);
  void give_up_on(Task& task);

  // ---- after it (scheduler.cc) ----
  void compute();
  void settle(const Planned& planned);
  void give_up_unseen(const Task& task, SampleSequence& sequence);
  void choose_tokens();
  void fork(Task& task);
  void take(Task& task, SampleSequence& sequence, std::optional<std::int32_t> token, double log_probability);
  void end(Task& task, SampleSequence& sequence, TokenEvent event);
  void end_cancelled();
  void retire_finished();
  bool ends(std::int32_t token) const;

  StepModel* model_;
  KvCache* cache_;
  Executor* executor_;
  SchedulerLimits limits_;
  Language language_;
  UnseenKeys unseen_;
  Reach reach_;

  Tasks running_, waiting_;  // each in the order of their numbers
  std::int64_t next_request_ = 0;
  std::map<RequestId, RequestAccount> ended_;  // the last ones
  GeneratorAccount account_;

  // Of the step under way.
  std::vector<Planned> planned_;
  std::int64_t prompt_tokens_ = 0;  // planned
  std::vector<TokenEvent> events_;
  std::vector<float> logits_;      // [sequences that want them, vocabulary]
  std::vector<Sampler> samplers_;  // [workers]
  std::int64_t refused_at_ = -1;   // pages available when the next request did not fit; -1: it was not tried
};

}  // namespace tilewise::runtime
