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

/// The io_context executor under `executor`. Throws misuse_error, invalid_options, if there is none.
BOTHWORLDS_API asio::io_context::executor_type io_context_executor_of(const asio::any_io_executor& executor,
                                                                      std::source_location where);

template <class Executor>
Executor executor_as(const asio::any_io_executor& executor, std::source_location where) {
  if constexpr (std::is_constructible_v<Executor, const asio::any_io_executor&>) {
    return Executor(executor);
  } else {
    static_assert(std::is_constructible_v<Executor, asio::io_context::executor_type>,
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

/// F and Args are decayed.
template <class F, class... Args>
class awaited_call final : public async_call {
  using operation = std::invoke_result_t<F, Args...>;

public:
  using result = typename decltype(find_awaited<std::remove_cvref_t<operation>>())::type;

  template <class G, class... As>
  explicit awaited_call(std::source_location where, G&& callable, As&&... args)
      : async_call(where), payload_(std::in_place, std::forward<G>(callable), std::forward<As>(args)...) {}

  result take() {
    if (has_ended()) payload_.reset();
    rethrow_failure();
    return result_.take();
  }

  asio::awaitable<void> run() override {
    using type = std::remove_cvref_t<operation>;
    if constexpr (!awaitable_traits<type>::value) {
      return store_result(invoke()(asio::use_awaitable), result_);
    } else if constexpr (std::is_same_v<typename awaitable_traits<type>::executor_type,
                                        asio::any_io_executor>) {
      return store_result(invoke(), result_);
    } else {
      return run_on_other_executor<typename awaitable_traits<type>::executor_type>();
    }
  }

private:
  ~awaited_call() override = default;

  decltype(auto) invoke() {
    return std::apply(
        [](auto&&... parts) -> decltype(auto) { return std::invoke(std::move(parts)...); }, *payload_);
  }

  template <class Executor>
  asio::awaitable<void> run_on_other_executor() {
    const Executor executor = executor_as<Executor>(co_await asio::this_coro::executor, where());
    co_await asio::co_spawn(executor, store_result(invoke(), result_), asio::use_awaitable);
  }

  std::optional<std::tuple<F, Args...>> payload_;
  result_slot<result> result_;
};

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace bothworlds::detail
