// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/detail/task_core.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <source_location>
#include <utility>

namespace bothworlds {

namespace detail {

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class R>
asio::awaitable<R> await_within(ref_ptr<awaited_result<R>> call,
                                std::chrono::steady_clock::duration limit) {
  co_await run_within(call, limit);
  co_return call->take();
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace detail

/// Awaits `work`, but not for longer than `limit`: `co_await with_timeout(2s, work())`.
///
/// Runs        `work`, an awaitable or a function without parameters that returns one, on the loop
/// of the awaiting coroutine,
///             with its context values; what it changes of them is seen afterwards.
/// Returns     what `work` gives, also where it ends well after it was cancelled.
/// Throws      what `work` throws; errc::timed_out where it was cancelled because `limit` had
/// passed, and has unwound. Cancellation  reaches `work`.
template <class A>
[[nodiscard("co_await it: nothing runs before")]] auto with_timeout(
    std::chrono::steady_clock::duration limit, A work,
    std::source_location where = std::source_location::current()) {
  return detail::await_within(detail::make_call(std::move(work), where), limit);
}

/// Waits that long; the loop does other things meanwhile. Not at all where `how_long` is not
/// positive. Cancelled, it throws operation_aborted.
[[nodiscard("co_await it")]] BOTHWORLDS_API asio::awaitable<void> sleep_for(
    std::chrono::steady_clock::duration how_long);

}  // namespace bothworlds
