// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <source_location>
#include <string>

namespace bothworlds::detail {

/// "file:line", as every report of this library writes a place.
std::string describe(const std::source_location& where);

}  // namespace bothworlds::detail
