#include "generation.h"

#include <fmt/format.h>

#include <charconv>

#include "table.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

double rate(std::int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

std::pair<std::int32_t, double> bias_of(const std::string& text) {
  const std::size_t equals = text.find('=');
  const auto refuse = [&] {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--logit-bias is '{}'; expected TOKEN=NUMBER, such as 2=-inf", text));
  };
  if (equals == std::string::npos) refuse();
  std::int32_t token = 0;
  double bias = 0;
  const char *begin = text.data(), *middle = begin + equals, *end = begin + text.size();
  const auto of_token = std::from_chars(begin, middle, token);
  const auto of_bias = std::from_chars(middle + 1, end, bias);
  if (of_token.ec != std::errc() || of_token.ptr != middle || of_bias.ec != std::errc() || of_bias.ptr != end) refuse();
  return {token, bias};
}

}  // namespace

void add_request_options(CLI::App& command, RequestOptions& options) {
  Request& request = options.request;
  Sampling& sampling = request.sampling;
  command.add_option("--n", request.most_tokens, "Tokens to generate at most")
      ->check(whole_number_from(1))
      ->capture_default_str();
  command.add_option("--temperature", sampling.temperature, "0 takes the most probable token; 1 the model's own odds")
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "Draw from the k most probable tokens only; 0 means all")
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "Draw from the fewest tokens that together have this probability")
      ->capture_default_str();
  command
      .add_option("--min-p", sampling.min_p, "Draw from tokens of at least this share of the best one's probability")
      ->capture_default_str();
  command.add_option("--repetition-penalty", sampling.repetition_penalty, "Above 1: make what occurred less probable")
      ->capture_default_str();
  command.add_option("--repetition-tokens", sampling.repetition_tokens, "In how many last tokens; -1 means all")
      ->capture_default_str();
  command.add_option("--seed", sampling.seed, "The same seed draws the same tokens")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command.add_option("--logit-bias", options.biases, "TOKEN=NUMBER is added to a token's logit; -inf forbids it");
  command.add_option("--stop", request.stop, "End where this text appears; may be given several times");
  command.add_flag("--ignore-end", request.ignore_end, "Go on behind the model's own end");
}

void add_cache_options(CLI::App& command, RequestOptions& options) {
  command
      .add_option("--cache-tokens", options.generator.cache_tokens,
                  "Tokens that the key/value cache holds in all; 0 means enough for one text")
      ->capture_default_str();
  command.add_option("--cache-dtype", options.cache_dtype, "float32, bfloat16, float16 or int8; float16 by default");
  command.add_option("--page-tokens", options.generator.page_tokens, "Tokens of a page")->capture_default_str();
  command.add_option("--chunk-tokens", options.generator.chunk_tokens, "Compute prompts so many tokens at a time")
      ->capture_default_str();
}

Request request_of(const RequestOptions& options) {
  Request request = options.request;
  for (const std::string& bias : options.biases) request.sampling.logit_bias.push_back(bias_of(bias));
  return request;
}

GeneratorOptions generator_options(const RequestOptions& options) {
  GeneratorOptions generator = options.generator;
  if (!options.cache_dtype.empty()) generator.cache_dtype = dtype_from_string(options.cache_dtype);
  return generator;
}

void Summary::look(const Generator& generator) {
  account = generator.account();
  if (account.cache.live_pages >= fullest.live_pages) fullest = account.cache;
}

std::string Summary::text() const {
  const double live_bytes = static_cast<double>(fullest.used_bytes + fullest.wasted_bytes);
  const std::int64_t computed = account.computed_tokens - account.generate_tokens;
  std::string text = fmt::format(
      "prompt:     {} tokens, {} of them from the cache; {} a second\n"
      "generated:  {} tokens{} on {} thread{}\n"
      "time:       model opened in {}, first token {} after that\n"
      "cache:      at most {} of {} pages, {}, of which {:.1f}% unused; sharing saved {}\n",
      grouped(account.prompt_tokens), grouped(account.reused_tokens),
      grouped(static_cast<std::int64_t>(rate(computed, account.prompt_seconds))), grouped(account.generated_tokens),
      account.generate_tokens > 0  // the first one comes with the prompt
          ? fmt::format("; {:.1f} a second", rate(account.generate_tokens, account.generate_seconds))
          : "",
      threads, threads == 1 ? "" : "s", seconds_text(load_seconds), seconds_text(first_token_seconds),
      grouped(fullest.live_pages), grouped(fullest.pages), bytes_text(live_bytes),
      live_bytes > 0 ? 100 * static_cast<double>(fullest.wasted_bytes) / live_bytes : 0.0,
      bytes_text(static_cast<double>(fullest.saved_bytes)));
  if (account.preemptions > 0) {
    text += fmt::format("pre-empted: {} times, {} tokens computed again\n", account.preemptions,
                        grouped(account.recomputed_tokens));
  }
  return text;
}

Json Summary::json() const {
  const std::int64_t computed = account.computed_tokens - account.generate_tokens;
  return {{"threads", threads},
          {"load_seconds", load_seconds},
          {"first_token_seconds", first_token_seconds},
          {"prompt_tokens", account.prompt_tokens},
          {"reused_tokens", account.reused_tokens},
          {"computed_tokens", account.computed_tokens},
          {"recomputed_tokens", account.recomputed_tokens},
          {"generated_tokens", account.generated_tokens},
          {"preemptions", account.preemptions},
          {"prompt_tokens_per_second", rate(computed, account.prompt_seconds)},
          {"generated_tokens_per_second", rate(account.generate_tokens, account.generate_seconds)},
          {"fullest_cache",
           {{"pages", fullest.pages},
            {"live_pages", fullest.live_pages},
            {"reusable_pages", fullest.reusable_pages},
            {"total_bytes", fullest.total_bytes},
            {"used_bytes", fullest.used_bytes},
            {"wasted_bytes", fullest.wasted_bytes},
            {"shared_bytes", fullest.shared_bytes},
            {"saved_bytes", fullest.saved_bytes},
            {"evicted_pages", account.cache.evicted_pages}}}};
}

}  // namespace tilewise::cli
