// What `generate`, `chat` and `bench generate` share: options of requests, and the account at the end.
#pragma once

#include <string>
#include <vector>

#include "command.h"
#include "tilewise/generate.h"

namespace tilewise::cli {

struct RequestOptions {
  Request request;  // all but the prompt
  std::vector<std::string> biases;
  GeneratorOptions generator;
  std::string cache_dtype;
};

/// Adds --n, --temperature and the other steps of sampling, --seed, --stop, --ignore-end.
void add_request_options(CLI::App& command, RequestOptions& options);

/// Adds --cache-tokens, --cache-dtype, --page-tokens, --chunk-tokens.
void add_cache_options(CLI::App& command, RequestOptions& options);

/// The request without prompt, biases read. Throws Error(invalid_argument) on one that is not TOKEN=NUMBER.
Request request_of(const RequestOptions& options);

/// Throws Error(parse) on an unknown dtype.
GeneratorOptions generator_options(const RequestOptions& options);

/// What a run came to, for people (a few lines) and for scripts.
struct Summary {
  double load_seconds = 0;
  double first_token_seconds = 0;  ///< From the submission of the prompt.
  int threads = 1;
  GeneratorAccount account{};
  KvCacheAccount fullest{};  ///< The cache when most of its pages were live.

  /// To be called behind each step.
  void look(const Generator& generator);

  std::string text() const;
  Json json() const;
};

}  // namespace tilewise::cli
