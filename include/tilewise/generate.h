// Continuing texts: many requests at once, each token as it comes.
//
//   Generator generator(Model::open("model.gguf"));
//   const RequestId id = generator.submit({.prompt = model.encode("Once upon a time"), .most_tokens = 64});
//   generator.run([](const TokenEvent& event) { std::fputs(event.text.c_str(), stdout); return true; });
//
// Requests join and leave at every step (continuous batching: Yu et al., "Orca: A Distributed Serving System for
// Transformer-Based Generative Models", 2022). Long prompts are computed in chunks between the others' tokens (Agrawal
// et al., "Sarathi", 2023). What requests have in common at their beginning is computed and kept once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tilewise/kv_cache.h"
#include "tilewise/model.h"

namespace tilewise {

/// How a token is chosen. The steps are taken in this order: bias, repetition penalty, temperature, top-k, top-p,
/// min-p; then one is drawn of what is left. The choice follows from the logits, the tokens so far, the seed, the
/// sample's number and the token's place, and from nothing else.
struct Sampling {
  /// Divides the logits. 0 takes the largest logit (the lowest number of several), whatever stands below.
  double temperature = 0;
  std::int64_t top_k = 0;  ///< Only the k most probable; 0: all.
  double top_p = 1;        ///< Only the fewest most probable whose probabilities reach p in all: (0, 1]. Holtzman 2020.
  double min_p = 0;  ///< Only those of at least this share of the largest probability: [0, 1]. Nguyen et al. 2024.
  /// Of tokens that occurred in the last `repetition_tokens` ones, prompt included: positive logits are divided by this
  /// and negative ones multiplied (Keskar et al., CTRL, 2019). 1: as they are.
  double repetition_penalty = 1;
  std::int64_t repetition_tokens = 64;  ///< -1: all.
  std::uint64_t seed = 0;
  std::vector<std::pair<std::int32_t, double>> logit_bias{};  ///< Token and what is added; -inf forbids it.
};

/// A text to be continued.
struct Request {
  std::vector<std::int32_t> prompt{};  ///< At least one token.
  std::int64_t most_tokens = 128;      ///< That are generated for each sample; at least 1.
  std::int64_t samples = 1;  ///< Continuations, which share the prompt's pages; sample i is drawn as number i.
  Sampling sampling{};
  std::vector<std::string> stop{};  ///< A sample ends where one of these appears in its text, which is cut off there.
  bool ignore_end = false;          ///< Go on behind the model's own end of a text.
  bool log_probabilities = false;   ///< Tell each token's log-probability.
  std::int64_t domain = 0;          ///< Only requests of one domain share beginnings: a tenant's number (kv_cache.h).
};

enum class RequestId : std::int64_t {};

/// Why a sample ended.
enum class Finish : std::uint8_t {
  none,         ///< It goes on.
  end_token,    ///< The model said so.
  stop_string,  ///< One of the request's.
  most_tokens,  ///< As many as were asked for.
  context,      ///< The model's context is full.
  cache,        ///< The cache cannot hold more of it, even alone: only under variants that see less than all.
  no_token,     ///< No token could be chosen: all are forbidden, or the logits are no numbers.
  cancelled,
};

/// "none", "end_token", ...
const char* to_string(Finish finish);

/// A token of a sample.
struct TokenEvent {
  RequestId request{};
  std::int64_t sample = 0;
  /// -1 where the event only ends the sample (cancelled, or text that had been held back).
  std::int32_t token = -1;
  /// What can be told of the text since the last event: whole characters, and nothing that may turn out to be the
  /// beginning of a stop string. The texts of a sample's events make up its text.
  std::string text{};
  double log_probability = 0;  ///< Natural log, under the logits as they are; where the request asked for it.
  Finish finish = Finish::none;
};

/// How a generator shares its machine.
struct GeneratorOptions {
  /// Tokens that the cache holds in all; 0: enough for one text of any length. Memory is taken as it is used.
  std::int64_t cache_tokens = 0;
  std::int64_t page_tokens = 16;
  /// float32, bfloat16, float16 or int8; by default float16, and float32 for a model that was opened as precise.
  std::optional<DType> cache_dtype{};
  std::int64_t chunk_tokens = 512;   ///< A prompt is computed in pieces that end at multiples of this.
  std::int64_t most_sequences = 64;  ///< Samples under way at once; others wait.
};

/// What became of a request.
struct RequestAccount {
  std::int64_t prompt_tokens = 0;
  std::int64_t reused_tokens = 0;     ///< Of the prompt: found in the cache when the request was first admitted.
  std::int64_t generated_tokens = 0;  ///< Of all samples.
  std::int64_t preemptions = 0;       ///< Times that its pages were given to an older request.
};

/// What a generator has done since it was made.
struct GeneratorAccount {
  std::int64_t steps = 0;
  std::int64_t prompt_tokens = 0;      ///< Of admitted requests, each counted once.
  std::int64_t reused_tokens = 0;      ///< Of these, not computed since the cache had them.
  std::int64_t computed_tokens = 0;    ///< Tokens that passed through the model, recomputed ones included.
  std::int64_t recomputed_tokens = 0;  ///< Of these, after a pre-emption.
  std::int64_t generated_tokens = 0;
  std::int64_t preemptions = 0;
  double prompt_seconds = 0;         ///< Of steps that computed prompts, be it beside others' tokens.
  double generate_seconds = 0;       ///< Of all other steps, which
  std::int64_t generate_tokens = 0;  ///< gave so many tokens.
  KvCacheAccount cache{};
};

namespace runtime {
class GeneratorState;
}

/// A model, a cache, and the requests under way. For one thread at a time.
///
/// A sample's tokens follow from its request alone, whatever else is under way and whenever it joined: bit for bit for
/// quantised weights, unless it was pre-empted or began in what the cache held; then the tokens given stand and the
/// logits of later ones agree within rounding.
///
/// Fairness: requests are admitted in the order in which they came, and none overtakes. Every sample under way gets one
/// token a step. Where pages run out, the request that came last gives up its own and waits at its old place; the
/// oldest is never pre-empted, so every request ends.
class Generator {
 public:
  /// Throws Error(invalid_argument) on options that make no sense and on a model that does not generate,
  /// Error(out_of_memory) with the bytes.
  explicit Generator(Model model, const GeneratorOptions& options = {});
  ~Generator();
  Generator(Generator&&) noexcept;
  Generator& operator=(Generator&&) noexcept;

  const Model& model() const;

  /// Queues a request. Throws Error(invalid_argument) on values outside of what Request and Sampling say, on tokens
  /// outside of the vocabulary, on a prompt that does not fit into the model's context (with the ways out), and
  /// Error(out_of_memory) where the cache could not hold the request even alone.
  RequestId submit(Request request);

  /// Whether no request is under way or waits.
  bool is_idle() const;

  /// Computes one step: a token for every sample under way, and chunks of prompts. What it throws comes from the
  /// machine, not from input; requests under way then stand as before the step.
  std::vector<TokenEvent> step();

  /// Steps until idle. `told` returns false to stop: then all requests are cancelled.
  void run(const std::function<bool(const TokenEvent& event)>& told);

  /// Ends a request; the next step() tells of it. Nothing happens to one that has ended.
  void cancel(RequestId request);

  /// Of a request that is under way, or ended not more than 1024 requests ago. Throws Error(invalid_argument) on
  /// others.
  RequestAccount account(RequestId request) const;
  GeneratorAccount account() const;

 private:
  std::unique_ptr<runtime::GeneratorState> state_;
};

/// A text and why it ended, of generate().
struct Continuation {
  std::string text{};
  std::vector<std::int32_t> tokens{};
  std::vector<double> log_probabilities{};  // [tokens], where asked for
  Finish finish = Finish::none;
};

/// Runs one request alone, on a cache of its own size. `told` may be empty; it returns false to stop.
std::vector<Continuation> generate(const Model& model, const Request& request,
                                   const std::function<bool(const TokenEvent& event)>& told = {});  // [samples]

}  // namespace tilewise
