// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>

namespace bothworlds::detail {

/// What a cancelled operation throws: Asio's operation_aborted, as a system_error.
std::exception_ptr operation_aborted() noexcept;

/// Whether `failure` is that.
bool is_operation_aborted(const std::exception_ptr& failure) noexcept;

}  // namespace bothworlds::detail
