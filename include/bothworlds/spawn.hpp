// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/detail/offload.hpp>
#include <bothworlds/detail/task_core.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

namespace detail {

/// Hands what a spawned coroutine ended with to the handler, on the handler's executor.
template <class R, class Handler>
class spawn_completion {
public:
  spawn_completion(Handler handler, ref_ptr<awaited_result<R>> call,
                   const asio::any_io_executor& on)
      : handler_(std::move(handler)),
        call_(std::move(call)),
        work_(asio::prefer(asio::get_associated_executor(handler_, on),
                           asio::execution::outstanding_work.tracked)) {}

  void operator()() {
    const asio::any_io_executor work = std::move(work_);
    asio::post(work, [handler = std::move(handler_), call = std::move(call_)]() mutable {
      std::exception_ptr failure = call->failure();
      call->discard();
      if constexpr (std::is_void_v<R>)
        std::move(handler)(std::move(failure));
      else if (failure)
        std::move(handler)(std::move(failure), R());
      else
        std::move(handler)(std::exception_ptr(), call->take());
    });
  }

private:
  Handler handler_;
  ref_ptr<awaited_result<R>> call_;
  asio::any_io_executor work_;
};

template <class R>
struct start_spawned {
  template <class Handler>
  void operator()(Handler&& handler, ref_ptr<awaited_result<R>> call,
                  asio::any_io_executor executor) const {
    using target = std::decay_t<Handler>;
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    if (slot.is_connected())
      asio::cancellation_slot(slot).assign(
          [call](asio::cancellation_type type) { call->request_cancel(type); });
    async_call& started = *call;
    continuation ended(
        spawn_completion<R, target>(std::forward<Handler>(handler), std::move(call), executor));
    spawn_on(executor, started, std::move(ended));
  }
};

}  // namespace detail

/// asio::co_spawn with the context values of the code that calls it: `spawn(executor, work,
/// token)`.
///
/// Runs        `work`, an awaitable or a function without parameters that returns one, on
/// `executor` (or an execution
///             context): one of an io_context with several threads gets a strand. It begins with a
///             snapshot of the values that are seen where it is spawned, may set its own, and leaks
///             nothing back.
/// Completes   with void(std::exception_ptr), or void(std::exception_ptr, R) for a result R, which
/// needs a default
///             constructor; on the handler's associated executor.
/// Cancellation  by the handler's associated slot. Nobody waits for it: for structure use
/// with_task_group. Threads     any.
template <class Executor, class A, class Token>
auto spawn(Executor&& executor, A work, Token&& token,
           std::source_location where = std::source_location::current()) {
  using result = detail::call_result_t<A>;
  const auto target = [&]() -> asio::any_io_executor {
    if constexpr (std::is_convertible_v<Executor, asio::execution_context&>)
      return executor.get_executor();
    else
      return executor;
  };
  return asio::async_initiate<Token, typename detail::offload_signature<result>::type>(
      detail::start_spawned<result>(), token, detail::make_call(std::move(work), where), target());
}

}  // namespace bothworlds
