// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <stop_token>

namespace bothworlds {

/// A timeout that never passes.
inline constexpr std::chrono::steady_clock::duration no_timeout =
    std::chrono::steady_clock::duration::max();

/// Options of async_to_sync.
struct async_options {
  /// Inside a callable run by sync_to_async: do not go to the loop that awaits it, but drive a
  /// fresh one here.
  bool force_new_loop = false;
  /// After this long the coroutine is cancelled; once it has unwound the call throws
  /// errc::timed_out. A result that the coroutine produces all the same is returned.
  std::chrono::steady_clock::duration timeout = no_timeout;
  /// When asked to stop, the coroutine is cancelled (cancellation_type::terminal).
  std::stop_token stop = {};
  const char* name = nullptr;  ///< shown in reports; null: file:line of the wrap
};

}  // namespace bothworlds
