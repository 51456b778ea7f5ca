// Which requests are taken.
#include <algorithm>

#include "core/fail.h"
#include "core/round_up.h"
#include "runtime/scheduler.h"

namespace tilewise::runtime {

std::int64_t Scheduler::pages_of(std::int64_t tokens) const {
  const std::int64_t page_tokens = cache_->shape().page_tokens;
  return ceil_div(tokens, page_tokens);
}

std::int64_t Scheduler::most_chunk_tokens() const {
  return reach_.past_context ? std::min(limits_.chunk_tokens, reach_.chunk_tokens) : limits_.chunk_tokens;
}

/// Pages that a sequence takes when it has so many tokens. Behind the context that is what its queries see (which may
/// begin in the middle of a page), a chunk, and copies of its first pages.
std::int64_t Scheduler::pages_of_sequence(std::int64_t tokens) const {
  if (!reach_.past_context) return pages_of(tokens);
  return std::min(pages_of(tokens), pages_of(reach_.seen_tokens + most_chunk_tokens()) + 1) + reach_.first_pages;
}

std::int64_t Scheduler::pages_alone(const Request& request) const {
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  std::int64_t tokens = prompt + request.most_tokens - 1;
  if (!reach_.past_context) tokens = std::min(tokens, model_->shape().context);
  const std::int64_t pages = pages_of_sequence(tokens);
  // Pages of the prompt that all samples share, for good only where none are given up.
  const std::int64_t whole = reach_.past_context ? 0 : std::min(prompt / cache_->shape().page_tokens, pages);
  // One more for the copy of the prompt's last page: every sample but one needs it, and all are counted.
  return whole + request.samples * (pages - whole) + (request.samples > 1 ? 1 : 0);
}

void Scheduler::expect_valid_request(const Request& request) const {
  const nn::TransformerShape& shape = model_->shape();
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  if (prompt == 0) fail_argument("the prompt has no tokens; expected at least one");
  for (const std::int32_t token : request.prompt) {
    if (token < 0 || token >= shape.vocabulary) {
      fail_argument("the prompt holds token {}; expected 0 to {}", token, shape.vocabulary - 1);
    }
  }
  if (prompt > shape.context && !reach_.past_context) {
    fail_argument(
        "the prompt has {} tokens and the model's context {}; shorten it, or open the model with a variant that sees a "
        "window, such as streaming_llm(4, {})",
        prompt, shape.context, std::max<std::int64_t>(shape.context / 2, 1));
  }
  constexpr std::int64_t kMostPositions = std::int64_t{1} << 30;
  if (request.most_tokens < 1 || request.most_tokens > kMostPositions - prompt) {
    fail_argument("most_tokens is {}; expected 1 to {}", request.most_tokens, kMostPositions - prompt);
  }
  if (request.samples < 1 || request.samples > limits_.most_sequences) {
    fail_argument("samples is {}; expected 1 to {}, the most sequences under way at once", request.samples,
                  limits_.most_sequences);
  }
  for (const std::string& word : request.stop) {
    if (word.empty()) fail_argument("a stop string is empty; every text would end at once");
  }
  if (request.domain < 0) fail_argument("domain is {}; expected 0 or more", request.domain);
  expect_valid(request.sampling, shape.vocabulary);
  const std::int64_t pages = pages_alone(request), all = cache_->shape().pages;
  if (pages > all) {
    fail(
        ErrorCode::out_of_memory,
        "the cache has {} pages of {} tokens; this request ({} prompt tokens, {} to generate, {} samples) may need {}: "
        "ask for fewer tokens or samples, or for a cache of {} tokens",
        all, cache_->shape().page_tokens, prompt, request.most_tokens, request.samples, pages,
        pages * cache_->shape().page_tokens);
  }
}

RequestId Scheduler::submit(Request request) {
  expect_valid_request(request);
  auto task = std::make_unique<Task>();
  task->id = static_cast<RequestId>(next_request_++);
  task->request = std::move(request);
  task->account.prompt_tokens = task->prompt_tokens();
  task->is_forked = task->request.samples == 1;
  task->sequences.reserve(static_cast<std::size_t>(task->request.samples));
  task->sequences.push_back(
      {.tokens = task->request.prompt, .text = SampleText(language_.tokenizer, task->request.stop)});
  const RequestId id = task->id;
  waiting_.push_back(std::move(task));
  return id;
}

}  // namespace tilewise::runtime
