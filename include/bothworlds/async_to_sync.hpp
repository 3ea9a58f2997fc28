// SPDX-License-Identifier: BSL-1.0
//
// From async to sync: finds a loop, or drives this thread's own, and gives blocking code a plain
// result.
#pragma once

#include <bothworlds/async_options.hpp>
#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/detail/sync_call.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/traits.hpp>

#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

/// What async_to_sync returns: call it, any number of times, like a blocking function.
///
/// It may be kept at namespace scope and called from several threads at once; each call works on a
/// copy of the callable, or, called as an rvalue, on the callable itself. Which loop a call uses is
/// found out by the call.
template <class F>
class blocking_function {
public:
  static constexpr bool bothworlds_is_async = false;
  using bothworlds_result_tag = void;

  template <class G>
  blocking_function(G&& callable, const async_options& options, std::source_location where)
      : callable_(std::forward<G>(callable)), options_(options), where_(where) {
    options_.name = detail::name_of(options);
  }

  template <class... Args>
    requires std::is_invocable_v<F, std::decay_t<Args>...>
  auto operator()(Args&&... args) const& {
    static_assert(
        std::is_copy_constructible_v<F>,
        "async_to_sync: this callable cannot be copied, so its wrapper can be called only once: "
        "write std::move(wrapper)(...)");
    return call(callable_, std::forward<Args>(args)...);
  }
  template <class... Args>
    requires std::is_invocable_v<F, std::decay_t<Args>...>
  auto operator()(Args&&... args) && {
    return call(std::move(callable_), std::forward<Args>(args)...);
  }

private:
  template <class G, class... Args>
  auto call(G&& callable, Args&&... args) const {
    constexpr bool async =
        detail::is_async_result_v<std::invoke_result_t<F, std::decay_t<Args>...>>;
    static_assert(
        async,
        "async_to_sync: this callable is blocking, it returns no awaitable: just call it, or "
        "write ensure_sync");
    if constexpr (async) {
      detail::check_may_block("async_to_sync", where_, options_.name);
      if (detail::is_empty_callable(callable))
        detail::refuse_empty_callable("async_to_sync", where_);
      using state = detail::awaited_call<F, std::decay_t<Args>...>;
      const detail::ref_ptr<state> made = detail::make_counted<state>(
          where_, std::forward<G>(callable), std::forward<Args>(args)...);
      made->block(options_);
      return made->take();
    }
  }

  F callable_;
  async_options options_;
  std::source_location where_;
};

/// Makes async code blocking: `async_to_sync(coroutine_function)(args...)`.
///
/// Runs        the coroutine on this thread's own loop, which is made at the first such call, kept,
///             and driven by this thread while it waits; inside a callable run by sync_to_async, on
///             the loop that awaits that callable. Work of the same chain that must run on this
///             thread runs here meanwhile; nothing else does.
/// F           anything that returns an asio::awaitable, of any executor, or an Asio deferred
///             operation.
/// Returns     a wrapper; calling it blocks and returns the coroutine's result.
/// Throws      whatever the coroutine throws, unchanged. misuse_error, running_loop, on a thread
///             that is running a loop, and invalid_options for an empty callable: then the callable
///             has not been touched. errc::timed_out after options.timeout; operation_aborted after
///             options.stop was requested; errc::loop_stopped if the loop that awaits the
///             surrounding callable stops or goes away: references given to the coroutine must then
///             outlive that loop.
/// Cancellation  of the operation that awaits the surrounding callable reaches the coroutine.
/// Threads     any thread that is not running a loop.
/// fork()      A coroutine may fork, but its loop does not go on in the child: there this call
///             throws forked_child, or returns once the coroutine has ended without another wait.
///             If a helper was running the loop, the child ends instead, and says so on stderr: end
///             it in the coroutine, with _exit() or exec.
/// Not for     coroutines: co_await instead. Not for calling into a loop from a thread that has
///             nothing to do with it: that is what a blocking portal is for.
template <class F>
[[nodiscard]] auto async_to_sync(F&& f, async_options options = {},
                                 std::source_location where = std::source_location::current()) {
  using target = std::decay_t<F>;
  static_assert(
      detail::is_callable<target>(),
      "async_to_sync: this is not callable: give it a function, a lambda or a function object that "
      "returns an asio::awaitable (not the awaitable itself)");
  if constexpr (detail::is_callable<target>()) {
    static_assert(
        async_callable<target>,
        "async_to_sync: this callable is blocking, it returns no awaitable: just call it, or write "
        "ensure_sync");
    if constexpr (async_callable<target>)
      return blocking_function<target>(std::forward<F>(f), options, where);
  }
}

}  // namespace bothworlds
