// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>

namespace bothworlds::detail {

/// Writes one line on stderr about the exception being handled, which left `where`, a place from which it cannot
/// go on to anybody. Never throws. Call it inside a catch handler.
void report_unhandled(const char* where) noexcept;

/// Calls `hook`, which may be empty; what it throws is reported as above.
void call_hook(const std::function<void()>& hook, const char* where) noexcept;

}  // namespace bothworlds::detail
