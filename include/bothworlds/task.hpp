// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/detail/task_core.hpp>

#include <boost/asio/awaitable.hpp>

#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

namespace detail {

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class T>
asio::awaitable<T> result_of_task(ref_ptr<task_core> core) {
  co_await join_task(core);
  auto& ended = static_cast<awaited_result<T>&>(call_of(*core));
  if constexpr (std::is_void_v<T>) {
    co_return;
  } else if constexpr (std::is_copy_constructible_v<T>) {
    co_return ended.stored().get();
  } else {
    claim_result(*core);
    co_return ended.take();
  }
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace detail

/// A coroutine that runs on its own, side by side with the one that started it: a handle, of which
/// there may be copies.
///
/// It belongs to a scope (a task_group, or the call of run or async_to_sync that it was started
/// in), which is not left before the task has ended. It begins with the context values of its
/// parent and leaks nothing back. Letting go of the handle neither stops nor detaches it; if it
/// then fails outside a group, the error is written to stderr, with its place.
///
/// Threads     cancel() and done() from any; join() in coroutines of any loop.
template <class T>
class task {
public:
  using value_type = T;

  explicit task(detail::ref_ptr<detail::task_core> core) noexcept : core_(std::move(core)) {}

  /// Waits until it has ended; gives its result or throws what it threw. Any number of times, by
  /// any number of coroutines, each of which gets a copy; a result that cannot be copied goes to
  /// the first, and the next gets a misuse_error. Cancelling the wait leaves the task alone.
  [[nodiscard("co_await it")]] asio::awaitable<T> join() const {
    return detail::result_of_task<T>(core_);
  }

  /// Asks it to end, by cancellation_type::terminal. Returns at once; join() then throws
  /// operation_aborted, unless the task ends otherwise.
  void cancel() const noexcept { detail::cancel_task(*core_); }

  /// It has ended: join() will not wait.
  bool done() const noexcept { return detail::is_done(*core_); }

private:
  detail::ref_ptr<detail::task_core> core_;
};

namespace detail {

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class T>
asio::awaitable<task<T>> create_typed_task(ref_ptr<awaited_result<T>> call) {
  co_return task<T>(co_await create_task_of(std::move(call)));
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace detail

/// Starts a task of the scope that the awaiting coroutine runs in: `co_await create_task(work)`,
/// like asyncio's.
///
/// Runs        `work`, an awaitable or a function without parameters that returns one (what
/// sync_to_async returns, for
///             instance), on the loop of the awaiting coroutine, from the next turn of the loop on.
/// Scope       the innermost task_group that the coroutine runs in; else the call of run or
/// async_to_sync, which returns
///             when its tasks have ended. There an error is for whoever joins the task; in a group
///             it ends the group.
/// Returns     a task.
/// Throws      misuse_error, no_context, in a coroutine that runs in no scope; nothing has run
/// then.
template <class A>
[[nodiscard("co_await it: nothing runs before")]] auto create_task(
    A work, std::source_location where = std::source_location::current()) {
  return detail::create_typed_task(detail::make_call(std::move(work), where));
}

}  // namespace bothworlds
