// tilewise generate: continues a text.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "command.h"
#include "generation.h"
#include "opened.h"
#include "tilewise/error.h"
#include "tilewise/generate.h"

namespace tilewise::cli {
namespace {

struct GenerateOptions {
  ModelChoice model;
  RequestOptions request;
  TextChoice prompt;
  std::string system;
  bool is_chat = false;
  bool no_special = false;
  bool as_json = false;
};

std::vector<std::int32_t> prompt_tokens(const GenerateOptions& options, const Model& model) {
  const std::string text = read_text(options.prompt, "--prompt");
  if (!options.is_chat) {
    if (!options.system.empty()) throw Error(ErrorCode::invalid_argument, "--system is given without --chat");
    return model.encode(text, {.add_special = !options.no_special});
  }
  std::vector<ChatMessage> messages;
  if (!options.system.empty()) messages.push_back({"system", options.system});
  messages.push_back({"user", text});
  return model.encode_chat(messages);
}

/// Text as it comes where there is one sample; else sample by sample as they end.
class Printer {
 public:
  explicit Printer(std::int64_t samples) : texts_(static_cast<std::size_t>(samples)) {}

  void add(const TokenEvent& event) {
    if (texts_.size() == 1) {
      write_out(event.finish == Finish::none ? event.text : event.text + "\n");
      return;
    }
    std::string& text = texts_[static_cast<std::size_t>(event.sample)];
    text += event.text;
    if (event.finish == Finish::none) return;
    write_out(fmt::format("--- sample {} ({}) ---\n{}\n", event.sample + 1, to_string(event.finish), text));
  }

 private:
  std::vector<std::string> texts_;
};

Json continuation_json(const Continuation& continuation) {
  Json json{{"text", continuation.text}, {"tokens", continuation.tokens}, {"finish", to_string(continuation.finish)}};
  if (!continuation.log_probabilities.empty()) json["log_probabilities"] = continuation.log_probabilities;
  return json;
}

/// What ended the texts where neither model nor user meant them to end; empty where they did.
std::string premature_ends(const std::vector<Continuation>& continuations, const ModelInfo& info) {
  const auto ended_by = [&](Finish finish) {
    return std::ranges::any_of(continuations, [&](const Continuation& each) { return each.finish == finish; });
  };
  std::string text;
  if (ended_by(Finish::context)) {
    text += fmt::format(
        "ended:      the model's context of {} tokens is full; --variant 'streaming_llm(4, {})' goes on behind it\n",
        info.context, std::max<std::int64_t>(info.context / 2, 1));
  }
  if (ended_by(Finish::cache)) text += "ended:      the cache is full; --cache-tokens makes it larger\n";
  if (ended_by(Finish::no_token)) text += "ended:      no token was left to choose; see --logit-bias\n";
  return text;
}

/// Ctrl-C may come at any step; a step of a long prompt is a chunk of it.
int generate_text(const GenerateOptions& options) {
  catch_interrupts();
  const Opened opened(options.model);
  Request request = request_of(options.request);
  request.prompt = prompt_tokens(options, opened.model());
  request.log_probabilities = options.as_json;
  const std::int64_t samples = request.samples;
  Generator generator(opened.model(), generator_options(options.request));
  Summary summary{.load_seconds = opened.seconds(), .threads = opened.threads()};
  std::vector<Continuation> continuations(static_cast<std::size_t>(std::max<std::int64_t>(samples, 1)));
  Printer printer(samples);
  const double begin = seconds_now();
  const RequestId id = generator.submit(std::move(request));
  bool was_interrupted = false;
  while (!generator.is_idle()) {
    if (take_interrupt()) {
      was_interrupted = true;
      generator.cancel(id);
    }
    for (const TokenEvent& event : generator.step()) {
      if (summary.first_token_seconds == 0) summary.first_token_seconds = seconds_now() - begin;
      Continuation& continuation = continuations[static_cast<std::size_t>(event.sample)];
      continuation.text += event.text;
      continuation.finish = event.finish;
      if (event.token >= 0 && event.finish != Finish::end_token) {
        continuation.tokens.push_back(event.token);
        continuation.log_probabilities.push_back(event.log_probability);
      }
      if (!options.as_json) printer.add(event);
    }
    summary.look(generator);
  }
  if (options.as_json) {
    Json list = Json::array();
    for (const Continuation& continuation : continuations) list.push_back(continuation_json(continuation));
    write_out(json_text({{"model", opened.model().info().path}, {"samples", list}, {"summary", summary.json()}}, 2));
  }
  std::fputs((premature_ends(continuations, opened.model().info()) + summary.text()).c_str(), stderr);
  return was_interrupted ? kInterrupted : 0;
}

}  // namespace

void add_generate(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("generate", "Continue a text with a language model, token by token");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_options(command, options->model);
  command.add_option("--prompt", options->prompt.text, "The text to continue; standard input where there is neither");
  command.add_option("--file", options->prompt.file, "A file with that text; - is standard input");
  command.add_flag("--chat", options->is_chat, "Put the text as a user's message, under the file's chat template");
  command.add_option("--system", options->system, "With --chat: what the model is told before");
  command.add_flag("--no-special", options->no_special, "Put no tokens around the text, whatever the file asks for");
  command.add_option("--samples", options->request.request.samples, "Continuations, drawn side by side")
      ->capture_default_str();
  add_request_options(command, options->request);
  add_cache_options(command, options->request);
  command.add_flag("--json", options->as_json, "Answer in JSON at the end, with tokens and log-probabilities");
  command.footer(
      "The text goes to standard output as it comes, a summary to standard error: speed, cache, reuse. Ctrl-C ends "
      "the\n"
      "text and leaves the summary. Tokens are the most probable ones unless --temperature says otherwise.\n"
      "Examples:\n"
      "  tilewise generate --model model.gguf --prompt 'The capital of France is' --n 20\n"
      "  tilewise generate --model model.gguf --chat --file question.txt\n"
      "  tilewise generate --model model.gguf --prompt 'Once' --samples 4 --temperature 0.8 --top-p 0.95 --seed 1\n"
      "  tilewise generate --model model.gguf --prompt 'Once' --variant 'streaming_llm(4, 512)' --n 20000\n"
      "  man ls | tilewise generate --model model.gguf --n 64 2> summary.txt");
  command.callback([options] {
    const int status = generate_text(*options);
    if (status != 0) throw CLI::RuntimeError(status);
  });
}

}  // namespace tilewise::cli
