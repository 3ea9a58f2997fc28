// SPDX-License-Identifier: BSL-1.0
//
// What has no caller to go to is told here, on stderr: one write for each report.
#pragma once

#include <exception>
#include <functional>
#include <source_location>
#include <string>

namespace bothworlds::detail {

/// Writes one line on stderr about the exception being handled, which left `where`, a place from
/// which it cannot go on to anybody. Never throws. Call it inside a catch handler.
void report_unhandled(const char* where) noexcept;

/// Calls `hook`, which may be empty; what it throws is reported as above.
void call_hook(const std::function<void()>& hook, const char* where) noexcept;

/// Reports that nobody has seen `failure` of what was made at `where`. `advice` as in class error.
void report_failure(const std::exception_ptr& failure, std::source_location where, const char* what,
                    const char* advice) noexcept;

/// Reports what looks like a mistake, made at `where`.
void report_misuse(std::source_location where, const char* what, const char* advice) noexcept;

/// True with BOTHWORLDS_DEBUG=1 in the environment: also what costs something to find out is
/// reported.
bool debug_mode() noexcept;

}  // namespace bothworlds::detail
