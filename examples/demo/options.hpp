// SPDX-License-Identifier: BSL-1.0
//
// What the command line says.
#pragma once

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <string_view>

namespace demo {

struct options {
  std::filesystem::path directory = "/usr/include/boost";
  std::filesystem::path database;            // empty: a temporary one, removed at the end
  unsigned short port = 0;                   // 0: any that is free
  std::chrono::duration<double> seconds{8};  // of load, for each of the two ways to call
  bool serve = false;
  bool help = false;
};

/// The command line cannot be understood; what() is one line that says why.
struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws usage_error.
options parse_options(int argc, const char* const* argv);

extern const std::string_view help_text;

}  // namespace demo
