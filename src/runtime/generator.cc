// The public Generator: a model, a cache and a scheduler.
#include <algorithm>
#include <limits>
#include <utility>

#include "core/fail.h"
#include "runtime/opened_model.h"
#include "runtime/scheduler.h"
#include "tilewise/generate.h"

namespace tilewise {
namespace runtime {
namespace {

void expect_at_least(const char* name, std::int64_t value, std::int64_t least) {
  if (value < least) fail_argument("{} is {}; expected {} or more", name, value, least);
}

const OpenedModel& checked(const Model& model, const GeneratorOptions& options) {
  model.loaded()->expect_generates("generate");
  expect_at_least("cache_tokens", options.cache_tokens, 0);
  expect_at_least("page_tokens", options.page_tokens, 1);
  expect_at_least("chunk_tokens", options.chunk_tokens, 1);
  expect_at_least("most_sequences", options.most_sequences, 1);
  return *model.loaded();
}

/// Tokens of one sequence, whatever it comes to. Behind the context there may be copies of all first pages.
std::int64_t most_cached(const OpenedModel& model) {
  return model.info().reaches_past_context ? 2 * model.info().context : model.info().context;
}

KvCacheShape cache_shape(const OpenedModel& model, const GeneratorOptions& options) {
  const std::int64_t tokens = options.cache_tokens == 0 ? most_cached(model) : options.cache_tokens;
  const std::int64_t pages = tokens / options.page_tokens + (tokens % options.page_tokens == 0 ? 0 : 1);
  return model.transformer()->cache_shape(pages, options.cache_dtype.value_or(model.cache_dtype()),
                                          options.page_tokens);
}

/// Positions that a sequence may have: behind the context only where queries see a window. Memory for as many block
/// tables is reserved, and taken as it is used.
std::int64_t most_positions(const OpenedModel& model) {
  constexpr std::int64_t kPastContext = std::int64_t{1} << 22;
  return model.info().reaches_past_context ? std::max(kPastContext, model.info().context) : model.info().context;
}

class DecoderKeys : public MovableKeys {
 public:
  DecoderKeys(std::shared_ptr<const nn::Transformer> model, const KvCache& cache, KvSequence sequence,
              std::int64_t count)
      : keys_(std::move(model), cache, sequence, count) {}
  void move(KvCache& cache, KvSequence sequence, std::int64_t distance) override {
    keys_.move(cache, sequence, distance);
  }

 private:
  nn::FirstKeys keys_;
};

class DecoderModel : public StepModel {
 public:
  DecoderModel(const OpenedModel& model, const KvCacheShape& cache, const GeneratorOptions& options)
      : transformer_(model.transformer()),
        decoder_(transformer_, cache,
                 {.tokens = options.chunk_tokens + options.most_sequences,
                  .chunks = options.most_sequences,
                  .length = most_positions(model)},
                 model.executor(), model.variant()) {}

  const nn::TransformerShape& shape() const override { return transformer_->shape(); }
  const Variant& variant() const override { return decoder_.variant(); }
  void forward(std::span<const nn::Chunk> chunks, KvCache& cache, float* logits) override {
    decoder_.forward(chunks, cache, logits);
  }
  std::unique_ptr<MovableKeys> first_keys(const KvCache& cache, KvSequence sequence, std::int64_t count) override {
    return std::make_unique<DecoderKeys>(transformer_, cache, sequence, count);
  }

 private:
  std::shared_ptr<const nn::Transformer> transformer_;
  nn::Decoder decoder_;
};

}  // namespace

class GeneratorState {
 public:
  GeneratorState(Model model, const GeneratorOptions& options)
      : model_(std::move(model)),
        cache_(cache_shape(checked(model_, options), options)),
        decoder_(*model_.loaded(), cache_.shape(), options),
        scheduler_(decoder_, cache_, model_.loaded()->executor(),
                   {.chunk_tokens = options.chunk_tokens, .most_sequences = options.most_sequences},
                   {.tokenizer = &model_.loaded()->tokenizer(), .end_tokens = model_.loaded()->end_tokens()}) {}

  const Model& model() const { return model_; }
  Scheduler& scheduler() { return scheduler_; }

 private:
  Model model_;
  KvCache cache_;
  DecoderModel decoder_;
  Scheduler scheduler_;
};

}  // namespace runtime

const char* to_string(Finish finish) {
  switch (finish) {
    case Finish::none: return "none";
    case Finish::end_token: return "end_token";
    case Finish::stop_string: return "stop_string";
    case Finish::most_tokens: return "most_tokens";
    case Finish::context: return "context";
    case Finish::cache: return "cache";
    case Finish::no_token: return "no_token";
    case Finish::cancelled: return "cancelled";
  }
  return "";
}

Generator::Generator(Model model, const GeneratorOptions& options)
    : state_(std::make_unique<runtime::GeneratorState>(std::move(model), options)) {}
Generator::~Generator() = default;
Generator::Generator(Generator&&) noexcept = default;
Generator& Generator::operator=(Generator&&) noexcept = default;

const Model& Generator::model() const { return state_->model(); }

RequestId Generator::submit(Request request) { return state_->scheduler().submit(std::move(request)); }

bool Generator::is_idle() const { return state_->scheduler().is_idle(); }

std::vector<TokenEvent> Generator::step() { return state_->scheduler().step(); }

void Generator::run(const std::function<bool(const TokenEvent& event)>& told) {
  bool goes_on = true;
  while (!is_idle()) {
    for (const TokenEvent& event : step()) goes_on = told(event) && goes_on;
    if (!goes_on) state_->scheduler().cancel_all();
  }
}

void Generator::cancel(RequestId request) { state_->scheduler().cancel(request); }

RequestAccount Generator::account(RequestId request) const { return state_->scheduler().account(request); }

GeneratorAccount Generator::account() const { return state_->scheduler().account(); }

std::vector<Continuation> generate(const Model& model, const Request& request,
                                   const std::function<bool(const TokenEvent& event)>& told) {
  constexpr std::int64_t kPageTokens = 16;
  const std::int64_t samples = std::max<std::int64_t>(request.samples, 1), most = runtime::most_cached(*model.loaded());
  const auto asked =
      static_cast<std::int64_t>(request.prompt.size()) + std::min(std::max<std::int64_t>(request.most_tokens, 0), most);
  // Each sample's last pages, and one copy while they part.
  const std::int64_t tokens =
      ((model.info().reaches_past_context ? most : std::min(asked, most)) + 2 * kPageTokens) * samples;
  Generator generator(model, {.cache_tokens = tokens, .page_tokens = kPageTokens, .most_sequences = samples});
  generator.submit(request);
  std::vector<Continuation> continuations(static_cast<std::size_t>(samples));
  generator.run([&](const TokenEvent& event) {
    Continuation& sample = continuations[static_cast<std::size_t>(event.sample)];
    sample.text += event.text;
    sample.finish = event.finish;
    if (event.token >= 0 && event.finish != Finish::end_token) {
      sample.tokens.push_back(event.token);
      if (request.log_probabilities) sample.log_probabilities.push_back(event.log_probability);
    }
    return !told || told(event);
  });
  return continuations;
}

}  // namespace tilewise
