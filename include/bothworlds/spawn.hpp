// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/awaited_operation.hpp>
#include <bothworlds/detail/offload.hpp>
#include <bothworlds/detail/result_slot.hpp>
#include <bothworlds/detail/spawned_work.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/prefer.hpp>

#include <exception>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

namespace detail {

/// A handler's associated executor, held as its outstanding work until the handler is posted there.
template <class Handler>
class handler_home {
public:
  explicit handler_home(const Handler& handler)
      : work_(asio::prefer(asio::get_associated_executor(handler),
                           asio::execution::outstanding_work.tracked)) {}
  asio::any_io_executor executor(const asio::any_io_executor&) const { return work_; }

private:
  asio::any_io_executor work_;
};

struct no_executor {};

/// It has none: it runs where its coroutine was spawned.
template <class Handler>
  requires std::is_same_v<asio::associated_executor_t<Handler, no_executor>, no_executor>
class handler_home<Handler> {
public:
  explicit handler_home(const Handler&) noexcept {}
  asio::any_io_executor executor(const asio::any_io_executor& home) const { return home; }
};

/// F is decayed.
template <class F, class Handler>
class spawned_work_of final : public spawned_work {
  using result = typename awaited_operation<F>::result;

public:
  spawned_work_of(F&& function, Handler&& handler)
      : operation_(std::in_place, std::move(function)),
        home_(handler),
        handler_(std::move(handler)) {}

  void invoke(std::source_location where) override { operation_.invoke(result_, where); }
  void await_from(coroutine_frame& host) override { operation_.await_from(host); }
  void store() override { operation_.store(result_); }
  void drop_operation() noexcept override { operation_.drop(); }

  asio::any_io_executor executor(const asio::any_io_executor& home) const override {
    return home_.executor(home);
  }
  void tell(std::unique_ptr<spawned_work> self) override {
    Handler handler = std::move(handler_);
    std::exception_ptr failure = take_failure();
    [[maybe_unused]] const handler_home<Handler> home = std::move(home_);  // its work ends last
    if constexpr (std::is_void_v<result>) {
      self.reset();
      std::move(handler)(std::move(failure));
    } else if (failure) {
      self.reset();
      std::move(handler)(std::move(failure), result());
    } else {
      result value = result_.take();
      self.reset();
      std::move(handler)(std::exception_ptr(), std::move(value));
    }
  }

private:
  awaited_operation<F> operation_;
  [[no_unique_address]] result_slot<result> result_;
  [[no_unique_address]] handler_home<Handler> home_;
  [[no_unique_address]] Handler handler_;
};

struct start_spawned {
  template <class Handler, class A>
  void operator()(Handler&& handler, A&& work, const asio::any_io_executor& executor,
                  std::source_location where) const {
    using function = decltype(as_function(std::forward<A>(work)));
    using target = std::decay_t<Handler>;
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    spawn_on(executor,
             std::make_unique<spawned_work_of<function, target>>(
                 as_function(std::forward<A>(work)), target(std::forward<Handler>(handler))),
             slot, where);
  }
};

}  // namespace detail

/// asio::co_spawn with the context values of the code that calls it: `spawn(executor, work, token)`.
///
/// Runs        `work`, an awaitable or a function without parameters that returns one, on `executor`
///             (or an execution context): one of an io_context with several threads gets a strand. It
///             begins with a snapshot of the values that are seen where it is spawned, may set its
///             own, and leaks nothing back.
/// Completes   with void(std::exception_ptr), or void(std::exception_ptr, R) for a result R, which
///             needs a default constructor; on the handler's associated executor, or else on
///             `executor`.
/// Cancellation  by the handler's associated slot. Nobody waits for it: for structure use
///             with_task_group.
/// Threads     any.
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
      detail::start_spawned(), token, std::move(work), target(), where);
}

}  // namespace bothworlds
