// SPDX-License-Identifier: BSL-1.0
//
// An object that lives, works and dies on one thread of its own.
#pragma once

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/detail/bound_object.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/awaitable.hpp>

#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

/// An object that only one thread ever touches: made, called and destroyed there. For what must not
/// change its thread, and what takes one call at a time: connections of databases, handles with
/// thread-local state.
///
///     thread_bound<database> db([path] { return database(path); });
///     int rows = co_await db.call([](database& d) { return d.count(); });
///
/// The thread is one of the library's, which are kept and used again; it shows `options.name` while
/// it belongs to the object. Calls run there one at a time, in the order of awaiting. But a call
/// that comes from the chain of the one that is running there, and is blocked, runs at once, below
/// it: A may call B, and B A. A call of another chain never does.
///
/// Every member may be used from any thread and any loop, at once. In a forked child each of them
/// ends with errc::forked_child.
///
/// Not for objects that any thread may use, one at a time: a capacity_limiter of 1 costs less.
template <class T>
class thread_bound {
public:
  /// Returns at once; `make()` runs on the thread and gives the object, which need not be movable.
  /// What it throws, every call throws. Throws, here, a system error if no thread can be started.
  template <class Make>
    requires std::is_same_v<std::invoke_result_t<std::decay_t<Make>>, T>
  explicit thread_bound(Make&& make, thread_bound_options options = {},
                        std::source_location where = std::source_location::current())
      : object_(new detail::made_object<T, std::decay_t<Make>>(std::forward<Make>(make),
                                                               std::move(options), where)) {
    object_->open();
  }

  /// As close(), for `options.patience` at most, in which it blocks: calls that are queued run, the
  /// object is destroyed. If the thread is still busy then, it is left behind: counted, reported on
  /// stderr with the place where this was made, and the object destroyed when the thread comes to
  /// it. On the object's own thread, or below a call that is running there, nothing is waited for.
  /// A handle that is never destroyed is reported when the process ends.
  ~thread_bound() { object_->close_within_patience(); }
  thread_bound(const thread_bound&) = delete;
  thread_bound& operator=(const thread_bound&) = delete;

  /// An awaitable of the result of f(T&), or f(std::stop_token, T&), as sync_to_async gives one:
  /// its options apply but for those that name another thread (invalid_options), and so do its
  /// rules of cancellation and results. Throws what f throws, or what make() threw; pool_closed
  /// once it is closed.
  template <class F>
    requires(!detail::is_fragile_temporary_v<F>)
  [[nodiscard("co_await it: nothing runs before")]] auto call(
      F&& f, sync_options options = {},
      std::source_location where = std::source_location::current()) {
    return make_call(std::forward<F>(f), options, where);
  }
  template <class F>
    requires(detail::is_fragile_temporary_v<F>)
  [[nodiscard("co_await it: nothing runs before"),
    deprecated("g++ 12 destroys the captures of a lambda twice when it is written inside a "
               "co_await expression: give the lambda a name first, then co_await "
               "object.call(name); or define "
               "BOTHWORLDS_NO_COROUTINE_TEMPORARY_WARNING where it is not inside one")]] auto
  call(F&& f, sync_options options = {},
       std::source_location where = std::source_location::current()) {
    return make_call(std::forward<F>(f), options, where);
  }

  /// Blocks until f(T&) has run, and returns its result. For sync code: where it may be called, and
  /// what runs on the blocked thread meanwhile, is as for async_to_sync (misuse_error,
  /// running_loop, on a thread that runs a loop). On the object's own thread f is simply called.
  template <class F>
  auto call_blocking(F f, std::source_location where = std::source_location::current()) {
    if constexpr (fits<F>()) {
      using result = detail::crossing_result_t<detail::bound_result_t<F, T>>;
      detail::check_may_block("thread_bound::call_blocking", where, nullptr);
      if (detail::is_empty_callable(f))
        detail::refuse_empty_callable("thread_bound::call_blocking", where);
      if constexpr (!std::is_invocable_v<F, std::stop_token, T&>)
        if (object_->on_its_thread())
          return static_cast<result>(std::invoke(std::move(f), object_->get(where)));
      auto begin = [object = object_, function = std::move(f), where]() mutable {
        return await_call(object, std::move(function), sync_options(), where);
      };
      using state = detail::awaited_call<decltype(begin)>;
      const detail::ref_ptr<state> made(new state(where, std::move(begin)));
      made->block(async_options());
      return made->take();
    }
  }

  /// Takes no more calls, lets those that are queued run, and destroys the object on its thread;
  /// done when that has happened. May be awaited any number of times. Throws misuse_error,
  /// would_deadlock, below a call that is running on the object. Cancelled, it only stops waiting.
  [[nodiscard("co_await it: nothing is closed before")]] asio::awaitable<void> close(
      std::source_location where = std::source_location::current()) {
    return detail::await_end_of(*object_, where);
  }

  thread_bound_stats stats() const { return object_->stats(); }

private:
  template <class F>
  static auto await_call(const detail::ref_ptr<detail::bound_object<T>>& object, F&& f,
                         const sync_options& options, std::source_location where) {
    using function = detail::bound_function<std::decay_t<F>, T>;
    using result = detail::crossing_result_t<detail::sync_result_t<function>>;
    const detail::call_options to(options, where, object);
    using call = detail::sync_call<detail::awaited_crossing, function>;
    return detail::await_crossing(detail::ref_ptr<detail::awaited_crossing<result>>(
        new call(to, function(std::forward<F>(f), *object, where))));
  }

  /// Whether F can be called on the object; if not, the compiler says why.
  template <class F>
  static consteval bool fits() {
    constexpr bool callable =
        std::is_invocable_v<F, T&> || std::is_invocable_v<F, std::stop_token, T&>;
    static_assert(callable, "thread_bound::call: give it something that can be called with a T&");
    if constexpr (callable) {
      constexpr bool async = detail::is_async_result_v<detail::bound_result_t<F, T>>;
      static_assert(!async,
                    "thread_bound::call: this callable is async, but the object must be used on "
                    "its own thread: let it return a plain result");
      return !async;
    }
    return false;
  }

  template <class F>
  auto make_call(F&& f, const sync_options& options, std::source_location where) {
    if constexpr (fits<std::decay_t<F>>()) {
      if (detail::is_empty_callable(f)) detail::refuse_empty_callable("thread_bound::call", where);
      return await_call(object_, std::forward<F>(f), options, where);
    }
  }

  const detail::ref_ptr<detail::bound_object<T>> object_;
};

template <class Make>
explicit thread_bound(Make) -> thread_bound<std::invoke_result_t<Make>>;
template <class Make>
thread_bound(Make, thread_bound_options) -> thread_bound<std::invoke_result_t<Make>>;

/// How many thread_bound objects this process has.
BOTHWORLDS_API thread_bound_counts count_thread_bounds() noexcept;

}  // namespace bothworlds
