// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/async_options.hpp>

#include <chrono>
#include <stop_token>

namespace bothworlds {

/// Options of calls that block their thread without running a coroutine, such as
/// channel::receive_blocking.
struct blocking_options {
  /// After this long the call gives up and throws errc::timed_out.
  std::chrono::steady_clock::duration timeout = no_timeout;
  /// When asked to stop, the call gives up and throws operation_aborted.
  std::stop_token stop = {};
};

}  // namespace bothworlds
