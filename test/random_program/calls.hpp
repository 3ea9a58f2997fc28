// SPDX-License-Identifier: BSL-1.0
//
// What a coroutine does to call a node: straight, across the bridge, and under a guard.
//
// g++ 12: what a co_await expression needs, and has a destructor, has a name of its own here.
#pragma once

#include "random_program/interpreter.hpp"

#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>

#include <functional>
#include <stop_token>
#include <type_traits>

namespace bothworlds::testing::random_program {

inline awaitable<std::uint64_t> interpreter::await_child(edge& e, place at) {
  if (e.child->blocking) {
    auto pending = cross(*e.child, at);
    co_return co_await std::move(pending);
  }
  counted argument(e.child->id);
  auto pending = coroutine(*e.child, at, std::move(argument));
  co_return co_await std::move(pending);
}

inline awaitable<std::uint64_t> interpreter::cross(node& n, place at) {
  using cross_function = awaitable<std::uint64_t> (interpreter::*)(node&, place);
  constexpr cross_function functions[result_kinds][2] = {
      {&interpreter::cross_with<result_kind::word, false>,
       &interpreter::cross_with<result_kind::word, true>},
      {&interpreter::cross_with<result_kind::object, false>,
       &interpreter::cross_with<result_kind::object, true>},
      {&interpreter::cross_with<result_kind::nothing, false>,
       &interpreter::cross_with<result_kind::nothing, true>},
      {&interpreter::cross_with<result_kind::reference, false>,
       &interpreter::cross_with<result_kind::reference, true>},
  };
  return (this->*functions[static_cast<int>(n.result)][n.takes_token])(n, at);
}

template <result_kind kind, bool token>
struct interpreter::blocking_entry {
  interpreter& in;
  node& n;
  place at;
  std::uint64_t* slot;
  instance alive = {};

  decltype(auto) operator()(std::stop_token stop, counted argument) const
    requires token
  {
    return run(&stop, argument);
  }
  decltype(auto) operator()(counted argument) const
    requires(!token)
  {
    return run(nullptr, argument);
  }
  auto run(const std::stop_token* stop, const counted& argument) const -> std::conditional_t<
      kind == result_kind::word, std::uint64_t,
      std::conditional_t<kind == result_kind::object, counted,
                         std::conditional_t<kind == result_kind::nothing, void, std::uint64_t&>>> {
    in.expect(argument.value() == n.id, n, "got another node's argument");
    const std::uint64_t value = in.blocking(n, at, stop);
    if constexpr (kind == result_kind::word) return value;
    if constexpr (kind == result_kind::object) return counted(value);
    if constexpr (kind == result_kind::nothing) *slot = value;
    if constexpr (kind == result_kind::reference) return *slot = value;
  }
};

template <result_kind kind, bool token>
awaitable<std::uint64_t> interpreter::cross_with(node& n, place at) {
  sync_options options;
  options.thread_sensitive = n.runs_on == place_kind::sensitive;
  if (n.runs_on == place_kind::pool) options.pool = &stage_.pool();
  if (n.runs_on == place_kind::executor) options.executor = &executor_.executor();
  if (n.target >= target_kind::abandon) options.on_cancel = cancel_policy::abandon;
  if (n.target == target_kind::interruptor) {
    n.interruptor = [&n] {
      ++n.interruptions;
      n.release.open();
    };
    options.on_cancel = cancel_policy::interrupt;
    options.interruptor = &n.interruptor;
  }
  std::uint64_t slot = 0;
  const blocking_entry<kind, token> entry{*this, n, at, &slot};
  auto wrapped = sync_to_async(entry, options);
  counted argument(n.id);
  auto pending = wrapped(std::move(argument));
  if constexpr (kind == result_kind::word) {
    slot = co_await std::move(pending);
  } else if constexpr (kind == result_kind::object) {
    const counted result = co_await std::move(pending);
    slot = result.value();
  } else if constexpr (kind == result_kind::nothing) {
    co_await std::move(pending);
  } else {
    const std::reference_wrapper<std::uint64_t> result = co_await std::move(pending);
    expect(&result.get() == &slot, n, "gives a reference to something else");
  }
  check_loop(n, at);
  co_return slot;
}

/// The coroutine that a guard cancels; it never throws.
inline awaitable<void> interpreter::victim(edge& e, place at, std::uint64_t& value,
                                           std::exception_ptr& failure, loop_event* reached) {
  failure = nullptr;
  try {
    value = co_await await_child(e, at);
  } catch (...) {
    failure = std::current_exception();
  }
  check_loop(*e.child, at);
  if (reached) reached->set();
}

inline awaitable<std::uint64_t> interpreter::call(edge& e, place at) {
  using namespace asio::experimental::awaitable_operators;
  if (e.guard == guard_kind::none) co_return co_await await_child(e, at);
  if (e.guard == guard_kind::race) co_return co_await race(e, at);

  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  loop_event reached(executor);
  bool at_target = false;
  // A target that is abandoned may still be in here when this coroutine has gone on.
  const trigger cancels{[&] {
    const asio::any_io_executor own = executor;
    asio::post(own, [&] {
      at_target = true;
      reached.set();
    });
  }};
  place below = at;
  below.cancels = &cancels;
  std::uint64_t value = 0;
  std::exception_ptr failure = std::make_exception_ptr(std::logic_error("never started"));
  const node& n = *e.child;
  switch (e.guard) {
    case guard_kind::or_: {
      auto either = victim(e, below, value, failure, nullptr) || reached.wait();
      const auto which = co_await std::move(either);
      expect(which.index() == (at_target ? 1 : 0), n, "|| says that the other one was first");
      break;
    }
    case guard_kind::and_: {
      auto until_reached = [&]() -> awaitable<void> {
        co_await reached.wait();
        throw plain_exception{e.child->id};
      };
      auto both = victim(e, below, value, failure, &reached) && until_reached();
      std::exception_ptr canceller;
      try {
        co_await std::move(both);
      } catch (...) {
        canceller = std::current_exception();
      }
      expect(outcome_of(canceller) == outcome{ending::plain, n.id}, n, "&& throws something else");
      break;
    }
    default: {
      auto cancelled = [&] { return victim(e, below, value, failure, &reached); };
      const child_task task(executor, cancelled);
      co_await reached.wait();
      task.cancel();
      co_await task.join();
      break;
    }
  }
  check_loop(n, at);
  if (e.target) e.target->release.open();
  if (failure) std::rethrow_exception(failure);
  co_return value;
}

inline awaitable<std::uint64_t> interpreter::race(edge& e, place at) {
  using namespace asio::experimental::awaitable_operators;
  std::uint64_t value = 0;
  std::exception_ptr failure =
      std::make_exception_ptr(boost::system::system_error(asio::error::operation_aborted));
  auto turn = [](int times) -> awaitable<void> {
    for (int i = 0; i < times; ++i) co_await yield_to_loop();
  };
  auto either = victim(e, at, value, failure, nullptr) || turn(e.race_steps);
  co_await std::move(either);
  check_loop(*e.child, at);
  co_return judge_race(e, failure, value, ending::aborted);
}

inline std::uint64_t interpreter::judge_race(edge& e, const std::exception_ptr& failure,
                                             std::uint64_t value, ending when_cancelled) {
  const outcome end = outcome_of(failure, value);
  if (end.how == ending::value) e.ended_with_value = true;
  const bool legal = (e.expected && end == *e.expected) || end.how == when_cancelled;
  if (!legal) violation(*e.child, ("ends a race with " + to_string(end)).c_str());
  return 0;
}

}  // namespace bothworlds::testing::random_program
