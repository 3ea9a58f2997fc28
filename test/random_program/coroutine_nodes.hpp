// SPDX-License-Identifier: BSL-1.0
//
// Nodes that are coroutines, and groups of them.
//
// g++ 12: what a co_await expression needs, and has a destructor, has a name of its own here.
#pragma once

#include "random_program/interpreter.hpp"

#include <bothworlds/thread_sensitive.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/experimental/parallel_group.hpp>

#include <vector>

namespace bothworlds::testing::random_program {

inline awaitable<std::uint64_t> interpreter::coroutine(node& n, place at, counted argument) {
  note(n);
  check_loop(n, at);
  expect(argument.value() == n.id, n, "got another node's argument");
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  if (at.loop->context)
    expect(&asio::query(executor, asio::execution::context) == at.loop->context, n,
           "runs on another loop's executor");
  if (n.target != target_kind::none) co_return co_await suspended_target(n, at);
  if (!n.opens_context) co_return co_await body(n, at);
  sync_place context{sync_place::kind::context};
  if (n.context_is_new) at.sync = &context;
  auto inside = [this, &n, at] { return body(n, at); };
  auto pending = with_thread_sensitive_context(inside);
  const std::uint64_t result = co_await std::move(pending);
  check_loop(n, at);
  co_return result;
}

inline awaitable<std::uint64_t> interpreter::body(node& n, place at) {
  check_loop(n, at);
  if (n.throws_first) raise(*n.throws, n.id);
  std::uint64_t sum = n.id;
  if (n.group != grouping::sequential) {
    sum = co_await group(n, at);
  } else {
    for (auto& e : n.children) {
      for (int i = 0; i < e->calls; ++i) {
        std::exception_ptr failure;
        std::uint64_t value = 0;
        try {
          value = co_await call(*e, at);
        } catch (...) {
          failure = std::current_exception();
        }
        check_loop(n, at);
        sum = take(*e, sum, failure, value);
      }
    }
  }
  if (n.throws) raise(*n.throws, n.id);
  co_return sum;
}

inline awaitable<std::uint64_t> interpreter::suspended_target(node& n, place at) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  loop_event never(executor);
  at.cancels->fire();
  std::exception_ptr failure;
  try {
    co_await never.wait();
  } catch (...) {
    failure = std::current_exception();
  }
  check_loop(n, at);
  expect(outcome_of(failure) == outcome{ending::aborted, 0}, n,
         "was not cancelled with operation_aborted");
  if (n.then == answer::give_up) std::rethrow_exception(failure);
  if (n.then == answer::raise) raise(*n.throws, n.id);
  co_return n.id;
}

inline awaitable<void> interpreter::group_member(edge& e, place at, std::uint64_t& value,
                                                 std::exception_ptr& failure, bool rethrows,
                                                 loop_event* others_ended) {
  try {
    if (others_ended) co_await others_ended->wait();
    for (int i = 0; i < e.calls; ++i) value = co_await await_child(e, at);
  } catch (...) {
    failure = std::current_exception();
  }
  check_loop(*e.child, at);
  if (failure && rethrows) std::rethrow_exception(failure);
}

inline awaitable<std::uint64_t> interpreter::group(node& n, place at) {
  using namespace asio::experimental::awaitable_operators;
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  const std::size_t count = n.children.size();
  struct member {
    std::uint64_t value = 0;
    // Of a member that is cancelled before its first step.
    std::exception_ptr failure =
        std::make_exception_ptr(boost::system::system_error(asio::error::operation_aborted));
  };
  std::vector<member> members(count);
  loop_event others_ended(executor);
  std::size_t others = 0;
  for (const auto& e : n.children) others += !e->on_path;
  if (others == 0) others_ended.set();
  const bool rethrows = n.group != grouping::and_operator;
  auto start = [&](std::size_t i) -> awaitable<void> {
    edge& e = *n.children[i];
    members[i].failure = nullptr;
    std::exception_ptr failure;
    try {
      co_await group_member(e, at, members[i].value, members[i].failure, rethrows,
                            e.on_path ? &others_ended : nullptr);
    } catch (...) {
      failure = std::current_exception();
    }
    if (!e.on_path && --others == 0) others_ended.set();
    if (failure) std::rethrow_exception(failure);
  };
  switch (n.group) {
    case grouping::and_operator: {
      auto all = count == 2 ? start(0) && start(1) : start(0) && start(1) && start(2);
      try {
        co_await std::move(all);
      } catch (...) {
        // Only members that were cancelled before their first step throw: in races.
        expect(n.racing, n, "&& throws although no member does");
      }
      break;
    }
    case grouping::tasks: {
      std::vector<child_task> tasks;
      for (std::size_t i = 0; i < count; ++i)
        tasks.emplace_back(executor, [&start, i] { return start(i); });
      for (std::size_t i = 0; i < count; ++i) {
        std::exception_ptr failure;
        try {
          co_await tasks[i].join();
        } catch (...) {
          failure = std::current_exception();
        }
        expect(outcome_of(failure) == outcome_of(members[i].failure), *n.children[i]->child,
               "a task ended otherwise than its coroutine");
      }
      break;
    }
    default: {
      auto member_of = [&](std::size_t i) {
        return asio::co_spawn(executor, start(i), asio::deferred);
      };
      std::vector<decltype(member_of(0))> operations;
      for (std::size_t i = 0; i < count; ++i) operations.push_back(member_of(i));
      auto all = asio::experimental::make_parallel_group(std::move(operations));
      auto ends = co_await all.async_wait(asio::experimental::wait_for_all(), asio::use_awaitable);
      for (std::size_t i = 0; i < count; ++i)
        expect(outcome_of(std::get<1>(ends)[i]) == outcome_of(members[i].failure),
               *n.children[i]->child, "the group reports another end of a member");
      break;
    }
  }
  std::uint64_t sum = n.id;
  for (std::size_t i = 0; i < count; ++i)
    sum = take(*n.children[i], sum, members[i].failure, members[i].value);
  co_return sum;
}

}  // namespace bothworlds::testing::random_program
