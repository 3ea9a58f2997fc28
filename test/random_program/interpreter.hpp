// SPDX-License-Identifier: BSL-1.0
//
// Runs a program, and looks at every node whether it is where it may be.
//
// Here is what it consists of; the other headers define it.
#pragma once

#include "random_program/plan.hpp"
#include "random_program/surroundings.hpp"

#include <bothworlds/async_options.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <stop_token>

namespace bothworlds::testing::random_program {

class interpreter {
public:
  interpreter(plan& program, stage& on, executor_threads& executor, sync_place& process)
      : program_(program), stage_(on), executor_(executor), process_(process) {}

  /// The program's end. Called on the root's thread.
  outcome run();

  /// Waits for callables that were left to themselves.
  void wait_for_stragglers() {
    for (int still = running_.load(); still != 0; still = running_.load()) running_.wait(still);
  }
  /// Empty: none. After the program.
  std::string violations() const { return violations_; }
  int left_behind() const { return left_behind_.load(); }
  int abandoned_at_most() const { return abandoned_at_most_.load(); }

private:
  /// Says that a target has been reached.
  struct trigger {
    std::function<void()> fire;
  };

  /// Where a node is; handed down by value.
  struct place {
    loop_place* loop = nullptr;  // null: a plain thread
    sync_place* sync = nullptr;
    const blocked_thread* above = nullptr;
    const trigger* cancels = nullptr;  // of the guard whose path leads here
  };

  template <result_kind kind, bool token>
  struct blocking_entry;
  class running_scope;

  awaitable<std::uint64_t> coroutine(node& n, place at, counted argument);
  awaitable<counted> coroutine_object(node& n, place at, counted argument) {
    const std::uint64_t value = co_await coroutine(n, at, std::move(argument));
    co_return counted(value);
  }
  awaitable<void> coroutine_nothing(node& n, place at, counted argument, std::uint64_t* result) {
    *result = co_await coroutine(n, at, std::move(argument));
  }
  awaitable<std::uint64_t> body(node& n, place at);
  awaitable<std::uint64_t> suspended_target(node& n, place at);
  awaitable<std::uint64_t> group(node& n, place at);
  awaitable<void> group_member(edge& e, place at, std::uint64_t& value, std::exception_ptr& failure,
                               bool rethrows, loop_event* others_ended);
  awaitable<std::uint64_t> call(edge& e, place at);
  awaitable<std::uint64_t> await_child(edge& e, place at);
  awaitable<std::uint64_t> cross(node& n, place at);
  template <result_kind kind, bool token>
  awaitable<std::uint64_t> cross_with(node& n, place at);
  awaitable<void> victim(edge& e, place at, std::uint64_t& value, std::exception_ptr& failure,
                         loop_event* reached);
  awaitable<std::uint64_t> race(edge& e, place at);

  std::uint64_t blocking(node& n, place at, const std::stop_token* stop);
  std::uint64_t blocked_target(node& n, place at, const std::stop_token* stop, long here);
  std::uint64_t call_from_blocking(edge& e, place below);
  std::uint64_t block_on(edge& e, place below, const async_options& options);

  template <class Executor>
  outcome run_on_loop(asio::io_context& loop, const Executor& executor, bool second_thread);

  /// Notes that `n` runs.
  static void note(node& n) { n.runs.fetch_add(1, std::memory_order_relaxed); }
  void check_loop(const node& n, const place& at);
  void check_thread(const node& n, const place& at, long here);
  void expect(bool holds, const node& n, const char* what) {
    if (!holds) violation(n, what);
  }
  void violation(const node& n, const char* what) {
    const std::lock_guard lock(mutex_);
    if (violations_.size() < 2000)
      violations_ += "  node " + std::to_string(n.id) + ": " + what + "\n";
  }
  static std::uint64_t take(const edge& e, std::uint64_t so_far, const std::exception_ptr& failure,
                            std::uint64_t value) {
    const outcome end = outcome_of(failure, value);
    if (!failure) return mix(so_far, value);
    if (!e.catches_it(end)) std::rethrow_exception(failure);
    return mix(so_far, end);
  }
  /// Of a thread that runs blocking nodes.
  bool is_of_library(long thread) const {
    return thread != root_sync_.thread && !executor_.contains(thread);
  }
  /// What is made of the end of a call that was in a race: 0 if it is one of the legal ones.
  std::uint64_t judge_race(edge& e, const std::exception_ptr& failure, std::uint64_t value,
                           ending when_cancelled);

  plan& program_;
  stage& stage_;
  executor_threads& executor_;
  sync_place& process_;
  loop_place root_loop_;
  sync_place root_sync_;
  std::mutex mutex_;
  std::string violations_;           // mutex_
  std::atomic<int> running_{0};      // blocking nodes
  std::atomic<int> left_behind_{0};  // abandoned for certain, on the pool
  std::atomic<int> abandoned_at_most_{0};
};

/// Blocking code counts as running until its last statement.
class interpreter::running_scope {
public:
  explicit running_scope(interpreter& in) : in_(in) { ++in_.running_; }
  running_scope(const running_scope&) = delete;
  running_scope& operator=(const running_scope&) = delete;
  ~running_scope() {
    std::atomic<int>& running = in_.running_;
    if (--running == 0) running.notify_all();
  }

private:
  interpreter& in_;
};

// --- where nodes run

inline void interpreter::check_loop(const node& n, const place& at) {
  loop_place& loop = *at.loop;
  const long here = kernel_thread_id();
  if (loop.serial) {
    expect(!loop.busy.exchange(true, std::memory_order_relaxed), n,
           "two threads run coroutines of one loop");
  }
  switch (loop.what) {
    case loop_place::kind::own:
      expect(here == loop.owner ||
                 !(stage_.is_worker(here) || executor_.contains(here) || here == process_.thread),
             n, "a coroutine runs on a thread for blocking code");
      break;
    case loop_place::kind::strand:
      expect(loop.inside(), n, "a coroutine has left its strand");
      [[fallthrough]];
    case loop_place::kind::single:
    case loop_place::kind::threads:
      expect(loop.threads->contains(here), n, "a coroutine has left the thread of its loop");
      break;
  }
  if (loop.serial) loop.busy.store(false, std::memory_order_relaxed);
}

inline void interpreter::check_thread(const node& n, const place& at, long here) {
  switch (n.runs_on) {
    case place_kind::pool: {
      bool allowed = stage_.is_worker(here);
      for (const blocked_thread* above = at.above; above && !allowed; above = above->above)
        allowed = above->thread == here;
      return expect(allowed, n, "runs neither on a worker nor on a blocked thread of its chain");
    }
    case place_kind::executor:
      return expect(executor_.contains(here), n, "does not run on its executor");
    case place_kind::inline_in_parent:
      return expect(!at.above || at.above->thread == here, n,
                    "does not run on its caller's thread");
    case place_kind::sensitive: break;
  }
  long known = 0;
  at.sync->thread.compare_exchange_strong(known, here);
  expect(known == 0 || known == here, n,
         "is thread-sensitive, and runs on another thread than others of its chain");
  if (at.sync->what == sync_place::kind::root_thread) return;
  expect(!stage_.is_worker(here) && !executor_.contains(here), n,
         "is thread-sensitive, and runs on a worker");
  expect(!at.loop || !at.loop->threads || !at.loop->threads->contains(here), n,
         "is thread-sensitive, and runs on its loop's thread");
}

}  // namespace bothworlds::testing::random_program
