// "Did you mean" for a command line that did not parse.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace tilewise::cli {

/// A line for the first subcommand or option in `arguments` that the program does not have but one close to it; else
/// nothing.
std::string suggestions(CLI::App& program, int argc, const char* const* arguments);

}  // namespace tilewise::cli
