// "Did you mean" for a command line that did not parse.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace tilewise::cli {

/// A line for the first subcommand or option in `arguments` that the program does not have: what it may have meant.
/// Nothing where that is anybody's guess.
std::string suggestions(CLI::App& program, int argc, const char* const* arguments);

}  // namespace tilewise::cli
