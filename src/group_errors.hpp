// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <source_location>
#include <vector>

namespace bothworlds::detail {

/// Keeps the errors of a group, of which the first is about to be thrown, for errors_of: as a value
/// of the code that runs now, so that they go wherever the first one goes. Where nothing carries
/// values, all but the first are reported.
void keep_errors(std::vector<std::exception_ptr> errors, std::source_location where) noexcept;

}  // namespace bothworlds::detail
