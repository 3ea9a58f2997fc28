// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace bothworlds::detail {

/// Writes one line on stderr about the exception being handled, which left `where`, a place from which it cannot
/// go on to anybody. Never throws. Call it inside a catch handler.
void report_unhandled(const char* where) noexcept;

}  // namespace bothworlds::detail
