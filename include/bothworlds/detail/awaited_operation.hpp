// SPDX-License-Identifier: BSL-1.0
//
// A callable with its arguments, and what it returns while that is awaited. Who runs it calls its steps
// one after another: invoke(), await_from(), and at the end of that store().
#pragma once

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/result_slot.hpp>
#include <bothworlds/traits.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <functional>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

/// The io_context executor under `executor`. Throws misuse_error, invalid_options, if there is
/// none.
BOTHWORLDS_API asio::io_context::executor_type io_context_executor_of(
    const asio::any_io_executor& executor, std::source_location where);

template <class Executor>
Executor executor_as(const asio::any_io_executor& executor, std::source_location where) {
  if constexpr (std::is_constructible_v<Executor, const asio::any_io_executor&>) {
    return Executor(executor);
  } else {
    static_assert(
        std::is_constructible_v<Executor, asio::io_context::executor_type>,
        "async_to_sync: an awaitable with this executor type can run on none of its loops: use "
        "asio::awaitable<T>");
    return Executor(io_context_executor_of(executor, where));
  }
}

/// What a deferred operation gives when it is awaited.
template <class Operation>
using awaitable_of_t = decltype(std::declval<Operation>()(asio::use_awaitable));

template <class R>
consteval auto find_awaited() {
  if constexpr (awaitable_traits<R>::value)
    return std::type_identity<typename awaitable_traits<R>::value_type>{};
  else
    return std::type_identity<typename awaitable_traits<awaitable_of_t<R>>::value_type>{};
}

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class R, class Executor>
asio::awaitable<void, Executor> store_result(asio::awaitable<R, Executor> operation,
                                             result_slot<R>& result) {
  if constexpr (std::is_void_v<R>) {
    co_await std::move(operation);
  } else {
    R value = co_await std::move(operation);
    result.store(std::move(value));
  }
}

/// Stores what `ended`, which was awaited, has returned; throws what it has thrown.
template <class R>
void store_ended(asio::awaitable<R>& ended, result_slot<R>& into) {
  if constexpr (std::is_void_v<R>) {
    ended.await_resume();
  } else {
    R value = ended.await_resume();
    into.store(std::move(value));
  }
}

/// F and Args are decayed.
template <class F, class... Args>
class awaited_operation {
  using operation = std::invoke_result_t<F, Args...>;
  using returned = std::remove_cvref_t<operation>;

public:
  using result = typename decltype(find_awaited<returned>())::type;

  template <class G, class... As>
  explicit awaited_operation(std::in_place_t, G&& callable, As&&... args)
      : payload_(std::in_place, std::forward<G>(callable), std::forward<As>(args)...) {}

  /// Calls the callable; throws what that throws. `into` is for what stores itself there.
  void invoke(result_slot<result>& into, std::source_location where) {
    if constexpr (!returns_awaitable)
      operation_.emplace(call()(asio::use_awaitable));
    else if constexpr (on_any_executor)
      operation_.emplace(call());
    else
      operation_.emplace(run_on<typename awaitable_traits<returned>::executor_type>(into, where));
  }
  /// What it has returned goes on in place of `host`, which has just been suspended; `host` is
  /// resumed at its end.
  void await_from(coroutine_frame& host) { operation_->await_suspend(as_awaiting(host)); }
  /// After that: stores the result, or throws.
  void store(result_slot<result>& into) {
    if constexpr (stores_itself)
      operation_->await_resume();
    else
      store_ended(*operation_, into);
  }
  /// What is awaited goes; its host has been destroyed, or it has ended.
  void drop() noexcept { operation_.reset(); }
  /// The callable and its arguments go.
  void discard() noexcept { payload_.reset(); }

private:
  static constexpr bool returns_awaitable = awaitable_traits<returned>::value;
  static constexpr bool on_any_executor = [] {
    if constexpr (returns_awaitable)
      return std::is_same_v<typename awaitable_traits<returned>::executor_type,
                            asio::any_io_executor>;
    else
      return false;
  }();
  static constexpr bool stores_itself = returns_awaitable && !on_any_executor;

  decltype(auto) call() {
    return std::apply(
        [](auto&&... parts) -> decltype(auto) { return std::invoke(std::move(parts)...); },
        *payload_);
  }

  template <class Executor>
  asio::awaitable<void> run_on(result_slot<result>& into, std::source_location where) {
    const Executor executor = executor_as<Executor>(co_await asio::this_coro::executor, where);
    co_await asio::co_spawn(executor, store_result(call(), into), asio::use_awaitable);
  }

  std::optional<std::tuple<F, Args...>> payload_;
  // Never assigned: an awaitable that is loses what it held.
  std::optional<asio::awaitable<std::conditional_t<stores_itself, void, result>>> operation_;
};

BOTHWORLDS_COROUTINE_TEMPLATES_END

/// An awaitable, as the function that gives it.
template <class Operation>
class handed_over {
public:
  explicit handed_over(Operation&& operation) : operation_(std::move(operation)) {}
  Operation operator()() { return std::move(operation_); }

private:
  Operation operation_;
};

/// An awaitable that was given as such has no callable: it is all there is.
template <class R>
class awaited_operation<handed_over<asio::awaitable<R>>> {
public:
  using result = R;

  explicit awaited_operation(std::in_place_t, handed_over<asio::awaitable<R>>&& given)
      : operation_(given()) {}

  void invoke(result_slot<R>&, std::source_location) noexcept {}
  void await_from(coroutine_frame& host) { operation_.await_suspend(as_awaiting(host)); }
  void store(result_slot<R>& into) { store_ended(operation_, into); }
  void drop() noexcept { const asio::awaitable<R> gone = std::move(operation_); }
  /// Not before its end, if it has begun.
  void discard() noexcept { drop(); }

private:
  asio::awaitable<R> operation_;
};

/// `work`, an awaitable or a deferred operation, or a function without parameters that gives one, as
/// such a function.
template <class A>
auto as_function(A&& work) {
  using target = std::decay_t<A>;
  if constexpr (is_async_result_v<target>) {
    return handed_over<target>(std::forward<A>(work));
  } else {
    static_assert(std::is_invocable_v<target>,
                  "give it an asio::awaitable, or a function without parameters that returns one");
    static_assert(is_async_callable_v<target> || !std::is_invocable_v<target>,
                  "this callable is blocking: write sync_to_async(callable)");
    return target(std::forward<A>(work));
  }
}

/// What awaiting `work` gives.
template <class A>
using call_result_t = typename awaited_operation<decltype(as_function(std::declval<A>()))>::result;

}  // namespace bothworlds::detail
