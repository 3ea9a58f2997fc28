// SPDX-License-Identifier: BSL-1.0
//
// From sync to async: blocking code gets a thread, the loop an awaitable.
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/detail/awaited_crossing.hpp>
#include <bothworlds/detail/offload.hpp>
#include <bothworlds/sync_options.hpp>
#include <bothworlds/traits.hpp>
#include <bothworlds/worker_pool.hpp>

#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

namespace bothworlds {

namespace detail {

/// True if F can be called with copies of these arguments, after a std::stop_token or without.
template <class F, class... Args>
inline constexpr bool callable_with_copies_v =
    std::is_invocable_v<F, std::decay_t<Args>...> || takes_stop_token_v<F, std::decay_t<Args>...>;

/// A sync_function whose calls run in one context.
template <class F>
class function_in_context {
public:
  static constexpr bool bothworlds_is_async = true;
  using bothworlds_result_tag = void;

  template <class G>
  function_in_context(G&& function, context in, std::source_location where)
      : function_(std::forward<G>(function)), in_(std::move(in)), where_(where) {}

  template <class... Args>
    requires std::is_invocable_v<const F&, Args...>
  [[nodiscard("co_await it: the callable does not run before")]] auto operator()(
      Args&&... args) const& {
    return bothworlds::with_context(in_, function_(std::forward<Args>(args)...), where_);
  }
  template <class... Args>
    requires std::is_invocable_v<F, Args...>
  [[nodiscard("co_await it: the callable does not run before")]] auto operator()(
      Args&&... args) && {
    return bothworlds::with_context(in_, std::move(function_)(std::forward<Args>(args)...), where_);
  }

private:
  F function_;
  context in_;
  std::source_location where_;
};

}  // namespace detail

/// What sync_to_async returns: call it, any number of times, and co_await what that gives.
///
/// Copying it copies the callable. It may be kept at namespace scope and called from several
/// threads at once; each call works on a copy of the callable, or, called as an rvalue, on the
/// callable itself.
template <class F>
class sync_function {
public:
  static constexpr bool bothworlds_is_async = true;
  using bothworlds_result_tag = void;

  template <class G>
  sync_function(G&& callable, const sync_options& options, std::source_location where)
      : callable_(std::forward<G>(callable)), options_(options, where) {}

  /// Arguments are decay-copied; std::ref passes a reference. Nothing runs before the result is
  /// awaited. Throws misuse_error, invalid_options, if the callable is empty.
  template <class... Args>
    requires detail::callable_with_copies_v<F, Args...>
  [[nodiscard("co_await it: the callable does not run before")]] auto operator()(
      Args&&... args) const& {
    static_assert(
        std::is_copy_constructible_v<F>,
        "sync_to_async: this callable cannot be copied, so its wrapper can be called only once: "
        "write std::move(wrapper)(...)");
    return make(callable_, std::forward<Args>(args)...);
  }
  template <class... Args>
    requires detail::callable_with_copies_v<F, Args...>
  [[nodiscard("co_await it: the callable does not run before")]] auto operator()(
      Args&&... args) && {
    return make(std::move(callable_), std::forward<Args>(args)...);
  }

  /// The same, but each call runs in `in`: see with_context for what that means when there are
  /// several.
  auto with_context(context in,
                    std::source_location where = std::source_location::current()) const& {
    return detail::function_in_context<sync_function>(*this, std::move(in), where);
  }
  auto with_context(context in, std::source_location where = std::source_location::current()) && {
    return detail::function_in_context<sync_function>(std::move(*this), std::move(in), where);
  }

private:
  template <class G, class... Args>
  auto make(G&& callable, Args&&... args) const {
    using result = detail::sync_result_t<F, std::decay_t<Args>...>;
    static_assert(!detail::is_async_result_v<result>,
                  "sync_to_async: this callable is already async: call it and co_await the result, "
                  "or write ensure_async");
    if constexpr (!detail::is_async_result_v<result>) {
      if (detail::is_empty_callable(callable))
        detail::refuse_empty_callable("sync_to_async", options_.where);
      using call = detail::sync_call<detail::awaited_crossing, F, std::decay_t<Args>...>;
      return detail::await_crossing(
          detail::ref_ptr<detail::awaited_crossing<detail::crossing_result_t<result>>>(
              detail::make_counted<call>(options_, std::forward<G>(callable),
                                         std::forward<Args>(args)...)));
    }
  }

  F callable_;
  detail::call_options options_;
};

namespace detail {

template <class F>
consteval bool is_closure() {
#if defined(__GNUC__)
  const std::string_view name = __PRETTY_FUNCTION__;
  // "[with F = main()::<lambda(int)>]"; what is merely declared in a lambda's body goes on after
  // the "<lambda(…)>".
  return name.find("<lambda(") != std::string_view::npos && name.ends_with(")>]");
#else
  return false;
#endif
}

/// What g++ 12 may destroy twice when it is a temporary of a co_await expression.
template <class F>
inline constexpr bool is_fragile_temporary_v =
    BOTHWORLDS_WARN_COROUTINE_TEMPORARY && !std::is_lvalue_reference_v<F> &&
    !std::is_trivially_destructible_v<std::remove_cvref_t<F>> &&
    (std::is_aggregate_v<std::remove_cvref_t<F>> || is_closure<std::remove_cvref_t<F>>());

template <class F>
auto wrap_sync(F&& callable, const sync_options& options, std::source_location where) {
  using target = std::decay_t<F>;
  static_assert(
      is_callable<target>(),
      "sync_to_async: this is not callable: give it a function, a lambda, a function object, a "
      "member function pointer or std::bind_front");
  if constexpr (is_callable<target>()) {
    static_assert(
        !is_async_by_type<target>(),
        "sync_to_async: this callable is already async: call it and co_await the result, or "
        "write ensure_async");
    if constexpr (!is_async_by_type<target>())
      return sync_function<target>(std::forward<F>(callable), options, where);
  }
}

}  // namespace detail

/// Makes blocking code awaitable: `co_await sync_to_async(f)(args...)`.
///
/// Runs        on a worker of the pool, or as `options` says ("Where code runs" in the README). The
///             awaiting coroutine resumes on its own executor; its loop goes on meanwhile. Works in
///             every coroutine whose executor converts to any_io_executor, also under a plain
///             asio::co_spawn.
/// F           any callable. If it can take a std::stop_token first, it gets one that cancellation
///             requests to stop.
/// Returns     a wrapper; calling it gives an awaitable of the callable's result. A reference
///             result arrives as a std::reference_wrapper.
/// Throws      invalid_options here for contradictory options; from co_await: whatever the callable
///             throws, unchanged; pool_closed, queue_full, forked_child, wrong_thread, or a system
///             error if no thread can be started: then the callable has not run.
/// Cancellation
///             total, partial and terminal alike. Before it has begun the callable never runs and
///             the await throws operation_aborted; afterwards options.on_cancel decides. It travels
///             into a call of async_to_sync that the callable is blocked in.
/// Threads     the wrapper may be made and called anywhere; the awaitable belongs to the coroutine
///             that awaits it.
/// fork()      A callable may fork, and the child may call anything, async_to_sync too. It is to end
///             itself, with _exit() or exec: the awaiting coroutine is not there. If the callable
///             returns in it, on a thread of the library's, the child ends, and says so on stderr;
///             where async_to_sync has run the callable, on its own thread, that throws
///             forked_child.
/// Not for     callables of a few hundred nanoseconds, which cost less than the crossing, and not
///             for CPU-bound work that is to use every core: that wants a pool of its own with as
///             many workers as cores.
template <class F>
  requires(!detail::is_fragile_temporary_v<F>)
[[nodiscard]] auto sync_to_async(F&& f, sync_options options = {},
                                 std::source_location where = std::source_location::current()) {
  return detail::wrap_sync(std::forward<F>(f), options, where);
}

template <class F>
  requires(detail::is_fragile_temporary_v<F>)
[[nodiscard,
  deprecated("g++ 12 destroys the captures of a lambda twice when it is written inside a co_await "
             "expression: "
             "give the lambda a name first, then co_await sync_to_async(name)(); or define "
             "BOTHWORLDS_NO_COROUTINE_TEMPORARY_WARNING where it is not inside one")]] auto
sync_to_async(F&& f, sync_options options = {},
              std::source_location where = std::source_location::current()) {
  return detail::wrap_sync(std::forward<F>(f), options, where);
}

/// The same crossing for any Asio completion token: `async_offload(f, token)` completes with
/// void(std::exception_ptr), or void(std::exception_ptr, R) for a result R, which needs a default
/// constructor for the case that there is an exception. Completes on the handler's associated
/// executor; a handler without one runs on the worker pool. Bad options, like everything else,
/// arrive through the exception_ptr, but for an empty callable, which throws misuse_error here.
/// Cancellation as for sync_to_async, by the handler's associated slot.
template <class F, class Token>
auto async_offload(F f, Token&& token, sync_options options = {},
                   std::source_location where = std::source_location::current()) {
  static_assert(detail::is_callable<F>(), "async_offload: this is not callable");
  static_assert(
      !detail::is_async_by_type<F>(),
      "async_offload: this callable is already async: hand its operation the token itself");
  if (detail::is_empty_callable(f)) detail::refuse_empty_callable("async_offload", where);
  using result = detail::crossing_result_t<detail::sync_result_t<F>>;
  detail::ref_ptr<detail::offloaded_call<result>> call(
      new detail::sync_call<detail::offloaded_call, F>(detail::call_options(options, where),
                                                       std::move(f)));
  return detail::initiate_offload<result>(std::move(call), options.pool,
                                          std::forward<Token>(token));
}

}  // namespace bothworlds
