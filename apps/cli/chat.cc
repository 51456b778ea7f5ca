// tilewise chat: a conversation, turn by turn.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>

#include "command.h"
#include "generation.h"
#include "opened.h"
#include "tilewise/error.h"
#include "tilewise/generate.h"

namespace tilewise::cli {
namespace {

struct ChatOptions {
  ModelChoice model;
  RequestOptions request;
  std::string system;
  bool as_json = false;
};

struct Turn {
  std::string answer;
  Finish finish = Finish::none;
  double first_token_seconds = 0, seconds = 0;
  RequestAccount account;
};

class Conversation {
 public:
  explicit Conversation(const ChatOptions& options)
      : options_(options),
        opened_(options.model),
        generator_(opened_.model(), generator_options(options.request)),
        request_(request_of(options.request)) {
    summary_.load_seconds = opened_.seconds();
    summary_.threads = opened_.threads();
    reset();
    // A file without a template is told of now, not behind the first question.
    std::vector<ChatMessage> probe = messages_;
    probe.push_back({"user", ""});
    opened_.model().encode_chat(probe);
  }

  void reset() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  }

  /// What was said so far is in the cache, so only the new message is computed.
  Turn ask(const std::string& text) {
    messages_.push_back({"user", text});
    Request request = request_;
    Turn turn;
    const double begin = seconds_now();
    RequestId id{};
    try {
      request.prompt = opened_.model().encode_chat(messages_);
      id = generator_.submit(std::move(request));
    } catch (const Error&) {
      messages_.pop_back();
      throw;
    }
    while (!generator_.is_idle()) {
      if (take_interrupt()) generator_.cancel(id);
      for (const TokenEvent& event : generator_.step()) {
        if (turn.first_token_seconds == 0) turn.first_token_seconds = seconds_now() - begin;
        turn.answer += event.text;
        turn.finish = event.finish;
        if (!options_.as_json) write_out(event.text);
      }
      summary_.look(generator_);
    }
    if (summary_.first_token_seconds == 0) summary_.first_token_seconds = turn.first_token_seconds;
    turn.seconds = seconds_now() - begin;
    turn.account = generator_.account(id);
    messages_.push_back({"assistant", turn.answer});
    return turn;
  }

  const Summary& summary() const { return summary_; }

 private:
  const ChatOptions& options_;
  Opened opened_;
  Generator generator_;
  Request request_;
  Summary summary_;
  std::vector<ChatMessage> messages_;
};

void print_turn(const Turn& turn, bool as_json) {
  if (as_json) {
    write_out(json_text({{"answer", turn.answer},
                         {"finish", to_string(turn.finish)},
                         {"prompt_tokens", turn.account.prompt_tokens},
                         {"reused_tokens", turn.account.reused_tokens},
                         {"generated_tokens", turn.account.generated_tokens},
                         {"first_token_seconds", turn.first_token_seconds},
                         {"seconds", turn.seconds}}));
    return;
  }
  write_out("\n\n");
  std::fprintf(stderr, "(%lld tokens before, %lld of them from the cache; %lld new in %.2f s%s)\n",
               static_cast<long long>(turn.account.prompt_tokens), static_cast<long long>(turn.account.reused_tokens),
               static_cast<long long>(turn.account.generated_tokens), turn.seconds,
               turn.finish == Finish::end_token ? "" : fmt::format("; ended by {}", to_string(turn.finish)).c_str());
}

void converse(const ChatOptions& options) {
  catch_interrupts();
  Conversation conversation(options);
  const bool is_person = isatty(STDIN_FILENO) != 0;
  if (is_person) std::fputs("/reset forgets the conversation, /exit or Ctrl-D leaves.\n", stderr);
  std::string line;
  while ((is_person ? std::fputs("> ", stderr) : 0) >= 0 && std::getline(std::cin, line)) {
    if (line == "/exit") break;
    if (line == "/reset") conversation.reset();
    if (line.empty() || line == "/reset") continue;
    try {
      print_turn(conversation.ask(line), options.as_json);
    } catch (const Error& error) {
      // A conversation that has become too long is told of, and can go on from the beginning.
      if (error.code() != ErrorCode::invalid_argument && error.code() != ErrorCode::out_of_memory) throw;
      if (!is_person) throw;
      std::fprintf(stderr, "%s\n/reset begins again.\n", error.what());
    }
  }
  std::fputs(conversation.summary().text().c_str(), stderr);
}

}  // namespace

void add_chat(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("chat", "Talk with a language model; what was said stays in its cache");
  const auto options = std::make_shared<ChatOptions>();
  options->request.request.most_tokens = 512;
  add_model_options(command, options->model);
  command.add_option("--system", options->system, "What the model is told before the conversation");
  add_request_options(command, options->request);
  add_cache_options(command, options->request);
  command.add_flag("--json", options->as_json, "One line of JSON for each answer");
  command.footer(
      "Each line of standard input is a message. The file's chat template puts them into the form that the model was\n"
      "trained on. Ctrl-C ends an answer; while it waits for you, the program.\n"
      "Examples:\n"
      "  tilewise chat --model model.gguf\n"
      "  tilewise chat --model model.gguf --system 'Answer in one sentence.' --temperature 0.7 --seed 3\n"
      "  printf 'Who are you?\\nSince when?\\n' | tilewise chat --model model.gguf --json");
  command.callback([options] { converse(*options); });
}

}  // namespace tilewise::cli
