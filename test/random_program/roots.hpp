// SPDX-License-Identifier: BSL-1.0
//
// Where a program starts. Includes all that runs it.
#pragma once

#include "random_program/blocking_nodes.hpp"
#include "random_program/calls.hpp"
#include "random_program/coroutine_nodes.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

#include <latch>
#include <memory>
#include <optional>
#include <thread>

namespace bothworlds::testing::random_program {

template <class Executor>
outcome interpreter::run_on_loop(asio::io_context& loop, const Executor& executor,
                                 bool second_thread) {
  thread_set drivers;
  root_loop_.threads = &drivers;
  root_loop_.context = &loop;
  const place at{&root_loop_, &process_, nullptr, nullptr};
  std::optional<outcome> end;
  asio::co_spawn(
      executor, [&] { return coroutine(*program_.top, at, counted(program_.top->id)); },
      [&](const std::exception_ptr& failure, std::uint64_t value) {
        end = outcome_of(failure, value);
      });
  drivers.add_this_thread();
  if (second_thread) {
    std::latch both(2);
    std::thread second([&] {
      drivers.add_this_thread();
      both.arrive_and_wait();
      loop.run();
    });
    both.arrive_and_wait();
    loop.run();
    second.join();
  } else {
    loop.run();
  }
  wait_for_stragglers();  // they have used the loop
  return end.value_or(outcome{ending::other, 1002});
}

inline outcome interpreter::run() {
  if (is_sync(program_.root)) {
    root_sync_.what = sync_place::kind::root_thread;
    root_sync_.thread = kernel_thread_id();
    const place at{nullptr, &root_sync_, nullptr, nullptr};
    std::exception_ptr failure;
    std::uint64_t value = 0;
    try {
      value = blocking(*program_.top, at, nullptr);
    } catch (...) {
      failure = std::current_exception();
    }
    return outcome_of(failure, value);
  }
  const int threads = program_.root >= root_kind::strand ? 2 : 1;
  asio::io_context loop(threads);
  // A strand must not outlive its context.
  const std::shared_ptr<void> strand_goes_first(nullptr,
                                                [this](void*) { root_loop_.inside = nullptr; });
  switch (program_.root) {
    case root_kind::strand:
      root_loop_.what = loop_place::kind::strand;
      if (program_.erased_strand) {
        const auto strand = asio::make_strand(asio::any_io_executor(loop.get_executor()));
        root_loop_.inside = [strand] { return strand.running_in_this_thread(); };
        return run_on_loop(loop, strand, true);
      } else {
        const auto strand = asio::make_strand(loop);
        root_loop_.inside = [strand] { return strand.running_in_this_thread(); };
        return run_on_loop(loop, strand, true);
      }
    case root_kind::two_thread_loop:
      root_loop_.what = loop_place::kind::threads;
      root_loop_.serial = false;
      return run_on_loop(loop, loop.get_executor(), true);
    default:
      root_loop_.what = loop_place::kind::single;
      return run_on_loop(loop, loop.get_executor(), false);
  }
}

}  // namespace bothworlds::testing::random_program
