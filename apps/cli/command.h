// What the subcommands share: how each joins the program, and how it answers.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tilewise::cli {

/// JSON with keys in the order in which they are written.
using Json = nlohmann::ordered_json;

/// A number for JSON, which has no infinity or NaN: those become null.
Json json_number(double value);

/// A line of JSON, or several where it is indented (-1: not). What is no UTF-8 becomes U+FFFD.
std::string json_text(const Json& json, int indent = -1);

/// Writes to standard output at once. A full disk or a closed pipe is an Error(io), not a short answer.
void write_out(const std::string& text);

/// Adds `--json` to a command and arranges for `answer_text` or `answer_json` to run when the command is given.
/// Both return what is printed on standard output.
void add_answers(CLI::App& command, std::function<std::string()> answer_text, std::function<Json()> answer_json);

/// For counts and seeds: refuses what is no whole number, and lesser ones. Negative numbers for unsigned options would
/// wrap without it.
CLI::Validator whole_number_from(std::uint64_t least);

/// Throws Error(invalid_argument) that says `what`, unless it holds.
void expect(bool holds, const std::string& what);

/// Of --lengths: some, each more than the one before, of 1 to `most`.
void expect_lengths(const std::vector<std::int64_t>& lengths, std::int64_t most);

/// Of --dtype: one that kernels take.
void expect_kernels_dtype(const std::string& dtype);

/// Throws Error(invalid_argument) unless least <= value <= most; `name` is the option, as it is typed.
void expect_within(const char* name, std::int64_t value, std::int64_t least, std::int64_t most);

// One for each subcommand, in a file of its name.
void add_explain_softmax(CLI::App& explain);
void add_explain_attention(CLI::App& explain);
void add_bench_attention(CLI::App& bench);
void add_bench_figure3(CLI::App& bench);
void add_bench_sparse(CLI::App& bench);
void add_variants(CLI::App& program);
void add_device(CLI::App& program);
void add_inspect(CLI::App& program);
void add_compile(CLI::App& program);
void add_tune(CLI::App& program);
void add_generate(CLI::App& program);
void add_chat(CLI::App& program);
void add_embed(CLI::App& program);
void add_perplexity(CLI::App& program);
void add_quantize(CLI::App& program);
void add_bench_generate(CLI::App& bench);
void add_bench_cache(CLI::App& bench);

}  // namespace tilewise::cli
