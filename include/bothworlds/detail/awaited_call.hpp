// SPDX-License-Identifier: BSL-1.0
//
// The typed shell around an async_call: the callable, its arguments, and its result.
#pragma once

#include <bothworlds/detail/async_call.hpp>
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

template <class R>
class awaited_result : public async_call {
public:
  using result = R;

  /// Once, after its end.
  R take() {
    if (has_ended()) discard();
    rethrow_failure();
    return result_.take();
  }
  /// After an end without failure; until it is taken.
  const result_slot<R>& stored() const noexcept { return result_; }

protected:
  using async_call::async_call;
  ~awaited_result() override = default;

  result_slot<R> result_;
};

template <class F, class... Args>
using awaited_result_of = awaited_result<
    typename decltype(find_awaited<std::remove_cvref_t<std::invoke_result_t<F, Args...>>>())::type>;

/// F and Args are decayed.
template <class F, class... Args>
class awaited_call final : public awaited_result_of<F, Args...> {
  using operation = std::invoke_result_t<F, Args...>;
  using base = awaited_result_of<F, Args...>;
  using base::result_;

public:
  using result = typename base::result;

  template <class G, class... As>
  explicit awaited_call(std::source_location where, G&& callable, As&&... args)
      : base(where),
        payload_(std::in_place, std::forward<G>(callable), std::forward<As>(args)...) {}

  void discard() noexcept override { payload_.reset(); }

  void invoke() override {
    if constexpr (!returns_awaitable)
      operation_.emplace(call()(asio::use_awaitable));
    else if constexpr (on_any_executor)
      operation_.emplace(call());
    else
      operation_.emplace(run_on<typename awaitable_traits<returned>::executor_type>());
  }
  void await_from(coroutine_frame& host) override { operation_->await_suspend(as_awaiting(host)); }
  void store() override {
    if constexpr (stores_itself || std::is_void_v<result>) {
      operation_->await_resume();
    } else {
      result value = operation_->await_resume();
      result_.store(std::move(value));
    }
  }
  void drop_operation() noexcept override { operation_.reset(); }

private:
  using returned = std::remove_cvref_t<operation>;
  static constexpr bool returns_awaitable = awaitable_traits<returned>::value;
  static constexpr bool on_any_executor = [] {
    if constexpr (returns_awaitable)
      return std::is_same_v<typename awaitable_traits<returned>::executor_type,
                            asio::any_io_executor>;
    else
      return false;
  }();
  static constexpr bool stores_itself = returns_awaitable && !on_any_executor;

  ~awaited_call() override = default;

  decltype(auto) call() {
    return std::apply(
        [](auto&&... parts) -> decltype(auto) { return std::invoke(std::move(parts)...); },
        *payload_);
  }

  template <class Executor>
  asio::awaitable<void> run_on() {
    const Executor executor =
        executor_as<Executor>(co_await asio::this_coro::executor, this->where());
    co_await asio::co_spawn(executor, store_result(call(), result_), asio::use_awaitable);
  }

  std::optional<std::tuple<F, Args...>> payload_;
  // Never assigned: an awaitable that is loses what it held.
  std::optional<asio::awaitable<std::conditional_t<stores_itself, void, result>>> operation_;
};

/// An awaitable, as the function that gives it.
template <class Operation>
class handed_over {
public:
  explicit handed_over(Operation&& operation) : operation_(std::move(operation)) {}
  Operation operator()() { return std::move(operation_); }

private:
  Operation operation_;
};

/// A call of `work`: an awaitable or a deferred operation, or a function without parameters that
/// gives one.
template <class A>
auto make_call(A&& work, std::source_location where) {
  using target = std::decay_t<A>;
  if constexpr (is_async_result_v<target>) {
    using call = awaited_call<handed_over<target>>;
    return ref_ptr<awaited_result<typename call::result>>(
        make_counted<call>(where, handed_over<target>(std::forward<A>(work))));
  } else {
    static_assert(std::is_invocable_v<target>,
                  "give it an asio::awaitable, or a function without parameters that returns one");
    constexpr bool async = is_async_callable_v<target>;
    static_assert(async || !std::is_invocable_v<target>,
                  "this callable is blocking: write sync_to_async(callable)");
    if constexpr (async) {
      using call = awaited_call<target>;
      return ref_ptr<awaited_result<typename call::result>>(
          make_counted<call>(where, std::forward<A>(work)));
    }
  }
}

template <class A>
using call_result_t =
    typename decltype(make_call(std::declval<A>(), std::source_location()))::element_type::result;

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace bothworlds::detail
