// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <source_location>
#include <string>

namespace bothworlds::detail {

/// "file:line", as every report of this library writes a place.
std::string describe(const std::source_location& where);

/// `bridge "name" at file:line`; without the name where it is null.
std::string describe_call(const char* bridge, const char* name, const std::source_location& where);

/// `function` as its author named it: g++ calls the body of a coroutine
/// "f(int) (f's mangled name.Frame*) [clone .actor]".
std::string without_coroutine_frame(const std::string& function);

/// "1.5 s".
std::string in_seconds(std::chrono::nanoseconds time);

}  // namespace bothworlds::detail
