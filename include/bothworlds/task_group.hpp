// SPDX-License-Identifier: BSL-1.0
//
// Coroutines side by side, none of which outlives the block that started them.
#pragma once

#include <bothworlds/errors_of.hpp>
#include <bothworlds/gather.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/task.hpp>
#include <bothworlds/timeout.hpp>

#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

/// Where the tasks of with_task_group are started. Made by it; the body, and tasks of the group,
/// hold a reference.
class task_group {
public:
  explicit task_group(detail::ref_ptr<detail::task_scope> scope) noexcept
      : scope_(std::move(scope)) {}
  task_group(task_group&&) noexcept = default;

  /// Starts `work`, an awaitable or a function without parameters that returns one, as a task of
  /// the group, on the loop of with_task_group, from the loop's next turn on. The function lives
  /// until the task has ended. Any thread, until the group is left; then misuse_error, no_context.
  template <class A>
  auto spawn(A work, std::source_location where = std::source_location::current()) {
    using result = detail::call_result_t<A>;
    return task<result>(detail::spawn_into(*scope_, detail::make_call(std::move(work), where)));
  }

  /// Cancels the body and all tasks, now and to come. Leaving the group is no error then. Any
  /// thread.
  void cancel() noexcept { detail::cancel_group(*scope_); }

private:
  detail::ref_ptr<detail::task_scope> scope_;
};

namespace detail {

template <class F>
class group_body {
public:
  group_body(F body, ref_ptr<task_scope> scope)
      : body_(std::move(body)), group_(std::move(scope)) {}
  auto operator()() { return std::invoke(body_, group_); }

private:
  F body_;
  task_group group_;
};

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class R>
asio::awaitable<R> await_group(ref_ptr<task_scope> scope, ref_ptr<awaited_result<R>> body) {
  co_await run_group(std::move(scope), body, std::is_void_v<R>);
  co_return body->take();
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace detail

/// Runs `body(group)`, and waits until it and every task of the group have ended:
/// `co_await with_task_group(body)`.
///
/// Runs        body(task_group&), which returns an awaitable, on the loop of the awaiting
/// coroutine, with its context
///             values; what the body changes of them is seen afterwards. body lives until the group
///             is left.
/// Returns     what the body returns.
/// Throws      the first error that the body or a task ends with, unchanged, after all have ended:
/// it cancels the
///             others. errors_of() gives the rest of the errors. A task that was cancelled is no
///             error.
/// Cancellation  reaches the body and all tasks; the group is left when they have ended.
/// From sync code  async_to_sync([] { return with_task_group(…); })().
template <class F>
[[nodiscard("co_await it: nothing runs before")]] auto with_task_group(
    F body, std::source_location where = std::source_location::current()) {
  static_assert(std::is_invocable_v<F&, task_group&>,
                "with_task_group: give it a function that takes a task_group&");
  detail::ref_ptr<detail::task_scope> scope = detail::make_group(where);
  auto call = detail::make_call(detail::group_body<F>(std::move(body), scope), where);
  return detail::await_group(std::move(scope), std::move(call));
}

}  // namespace bothworlds
