// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/traits.hpp>

#include <source_location>
#include <utility>

namespace bothworlds {

/// Options of run.
struct run_options {
  /// Let SIGINT and SIGTERM end the program in an orderly way. Their former handling is back when
  /// run returns.
  bool handle_signals = true;
  const char* name = nullptr;  ///< shown in reports
};

namespace detail {

/// Blocks until `main` has ended. Throws interrupted.
BOTHWORLDS_API void run_main(async_call& main, const run_options& options);

}  // namespace detail

/// The way from main() into the async world: `return bothworlds::run(async_main);`, like
/// asyncio.run.
///
/// Runs        main_coroutine_fn(), which returns an awaitable, on this thread's own loop, and
/// returns when it and all
///             tasks that it has made have ended.
/// Returns     its result.
/// Throws      what it throws. interrupted, which is of code operation_aborted and has the signal's
/// number: SIGINT or SIGTERM
///             came, main was cancelled, and it and its tasks have unwound; where main then fails
///             with another error, that error. At a second signal it writes to stderr what is still
///             running, with its place, and ends the process with 128 + the signal's number.
///             misuse_error, running_loop, on a thread that is running a loop.
/// Threads     any that may block; meant for the first one. A second thread watches for the signals
/// meanwhile.
template <class F>
auto run(F main_coroutine_fn, run_options options = {},
         std::source_location where = std::source_location::current()) {
  static_assert(is_async_callable_v<F>,
                "run: give it a function without parameters that returns an asio::awaitable");
  detail::check_may_block("run", where, options.name);
  const auto main = detail::make_call(std::move(main_coroutine_fn), where);
  detail::run_main(*main, options);
  return main->take();
}

}  // namespace bothworlds
