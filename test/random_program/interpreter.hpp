// SPDX-License-Identifier: BSL-1.0
//
// Runs a program, and looks at every node whether it is where it may be.
//
// g++ 12: what a co_await expression needs, and has a destructor, has a name of its own here.
#pragma once

#include "random_program/plan.hpp"
#include "random_program/surroundings.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/strand.hpp>
#include <boost/thread/thread.hpp>

#include <mutex>
#include <latch>
#include <stop_token>
#include <thread>

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
    loop_place* loop = nullptr;              // null: a plain thread
    sync_place* sync = nullptr;
    const blocked_thread* above = nullptr;
    const trigger* cancels = nullptr;        // of the guard whose path leads here
  };

  template <result_kind kind, bool token>
  struct blocking_entry;
  class visit_loop;
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
  awaitable<void> group_member(edge& e, place at, std::uint64_t& value, std::exception_ptr& failure, bool rethrows,
                               loop_event* others_ended);
  awaitable<std::uint64_t> call(edge& e, place at);
  awaitable<std::uint64_t> await_child(edge& e, place at);
  awaitable<std::uint64_t> cross(node& n, place at);
  template <result_kind kind, bool token>
  awaitable<std::uint64_t> cross_with(node& n, place at);
  awaitable<void> victim(edge& e, place at, std::uint64_t& value, std::exception_ptr& failure, loop_event* reached);
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
    if (violations_.size() < 2000) violations_ += "  node " + std::to_string(n.id) + ": " + what + "\n";
  }
  static std::uint64_t take(const edge& e, std::uint64_t so_far, const std::exception_ptr& failure, std::uint64_t value) {
    const outcome end = outcome_of(failure, value);
    if (!failure) return mix(so_far, value);
    if (!e.catches_it(end)) std::rethrow_exception(failure);
    return mix(so_far, end);
  }
  /// Of a thread that runs blocking nodes.
  bool is_of_library(long thread) const { return thread != root_sync_.thread && !executor_.contains(thread); }
  /// What is made of the end of a call that was in a race: 0 if it is one of the legal ones.
  std::uint64_t judge_race(edge& e, const std::exception_ptr& failure, std::uint64_t value, ending when_cancelled);

  plan& program_;
  stage& stage_;
  executor_threads& executor_;
  sync_place& process_;
  loop_place root_loop_;
  sync_place root_sync_;
  std::mutex mutex_;
  std::string violations_;             // mutex_
  std::atomic<int> running_{0};        // blocking nodes
  std::atomic<int> left_behind_{0};    // abandoned for certain, on the pool
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
    expect(!loop.busy.exchange(true, std::memory_order_relaxed), n, "two threads run coroutines of one loop");
  }
  switch (loop.what) {
    case loop_place::kind::own:
      expect(here == loop.owner || !(stage_.is_worker(here) || executor_.contains(here) || here == process_.thread), n,
             "a coroutine runs on a thread for blocking code");
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
    case place_kind::executor: return expect(executor_.contains(here), n, "does not run on its executor");
    case place_kind::inline_in_parent:
      return expect(!at.above || at.above->thread == here, n, "does not run on its caller's thread");
    case place_kind::sensitive: break;
  }
  long known = 0;
  at.sync->thread.compare_exchange_strong(known, here);
  expect(known == 0 || known == here, n, "is thread-sensitive, and runs on another thread than others of its chain");
  if (at.sync->what == sync_place::kind::root_thread) return;
  expect(!stage_.is_worker(here) && !executor_.contains(here), n, "is thread-sensitive, and runs on a worker");
  expect(!at.loop || !at.loop->threads || !at.loop->threads->contains(here), n,
         "is thread-sensitive, and runs on its loop's thread");
}

// --- coroutines

inline awaitable<std::uint64_t> interpreter::coroutine(node& n, place at, counted argument) {
  note(n);
  check_loop(n, at);
  expect(argument.value() == n.id, n, "got another node's argument");
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  if (at.loop->context)
    expect(&asio::query(executor, asio::execution::context) == at.loop->context, n, "runs on another loop's executor");
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
  expect(outcome_of(failure) == outcome{ending::aborted, 0}, n, "was not cancelled with operation_aborted");
  if (n.then == answer::give_up) std::rethrow_exception(failure);
  if (n.then == answer::raise) raise(*n.throws, n.id);
  co_return n.id;
}

inline awaitable<void> interpreter::group_member(edge& e, place at, std::uint64_t& value, std::exception_ptr& failure,
                                                 bool rethrows, loop_event* others_ended) {
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
      co_await group_member(e, at, members[i].value, members[i].failure, rethrows, e.on_path ? &others_ended : nullptr);
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
      for (std::size_t i = 0; i < count; ++i) tasks.emplace_back(executor, [&start, i] { return start(i); });
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
      auto member_of = [&](std::size_t i) { return asio::co_spawn(executor, start(i), asio::deferred); };
      std::vector<decltype(member_of(0))> operations;
      for (std::size_t i = 0; i < count; ++i) operations.push_back(member_of(i));
      auto all = asio::experimental::make_parallel_group(std::move(operations));
      auto ends = co_await all.async_wait(asio::experimental::wait_for_all(), asio::use_awaitable);
      for (std::size_t i = 0; i < count; ++i)
        expect(outcome_of(std::get<1>(ends)[i]) == outcome_of(members[i].failure), *n.children[i]->child,
               "the group reports another end of a member");
      break;
    }
  }
  std::uint64_t sum = n.id;
  for (std::size_t i = 0; i < count; ++i) sum = take(*n.children[i], sum, members[i].failure, members[i].value);
  co_return sum;
}

// --- calls of coroutines

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
      {&interpreter::cross_with<result_kind::word, false>, &interpreter::cross_with<result_kind::word, true>},
      {&interpreter::cross_with<result_kind::object, false>, &interpreter::cross_with<result_kind::object, true>},
      {&interpreter::cross_with<result_kind::nothing, false>, &interpreter::cross_with<result_kind::nothing, true>},
      {&interpreter::cross_with<result_kind::reference, false>, &interpreter::cross_with<result_kind::reference, true>},
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
  auto run(const std::stop_token* stop, const counted& argument) const
      -> std::conditional_t<
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
inline awaitable<void> interpreter::victim(edge& e, place at, std::uint64_t& value, std::exception_ptr& failure,
                                           loop_event* reached) {
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
  std::exception_ptr failure = std::make_exception_ptr(boost::system::system_error(asio::error::operation_aborted));
  auto turn = [](int times) -> awaitable<void> {
    for (int i = 0; i < times; ++i) co_await yield_to_loop();
  };
  auto either = victim(e, at, value, failure, nullptr) || turn(e.race_steps);
  co_await std::move(either);
  check_loop(*e.child, at);
  co_return judge_race(e, failure, value, ending::aborted);
}

inline std::uint64_t interpreter::judge_race(edge& e, const std::exception_ptr& failure, std::uint64_t value,
                                             ending when_cancelled) {
  const outcome end = outcome_of(failure, value);
  if (end.how == ending::value) e.ended_with_value = true;
  const bool legal = (e.expected && end == *e.expected) || end.how == when_cancelled;
  if (!legal) violation(*e.child, ("ends a race with " + to_string(end)).c_str());
  return 0;
}

// --- blocking code

inline std::uint64_t interpreter::blocking(node& n, place at, const std::stop_token* stop) {
  const running_scope running(*this);
  note(n);
  const long here = kernel_thread_id();
  check_thread(n, at, here);
  if (n.target != target_kind::none) return blocked_target(n, at, stop, here);
  if (stop && !n.racing) expect(!stop->stop_requested(), n, "was asked to stop");
  if (n.has_interruption_point) {
    try {
      boost::this_thread::interruption_point();
    } catch (const boost::thread_interrupted&) {
      violation(n, "got somebody else's interruption");
    }
  }
  if (n.throws_first) raise(*n.throws, n.id);
  const blocked_thread blocked{here, at.above};
  place below = at;
  below.above = &blocked;
  std::uint64_t sum = n.id;
  for (auto& e : n.children)
    for (int i = 0; i < e->calls; ++i) {
      std::exception_ptr failure;
      std::uint64_t value = 0;
      try {
        value = call_from_blocking(*e, below);
      } catch (...) {
        failure = std::current_exception();
      }
      expect(kernel_thread_id() == here, n, "has changed its thread");
      sum = take(*e, sum, failure, value);
    }
  if (n.throws) raise(*n.throws, n.id);
  return sum;
}

inline std::uint64_t interpreter::blocked_target(node& n, place at, const std::stop_token* stop, long here) {
  if (n.target >= target_kind::abandon && n.runs_on == place_kind::pool) {
    ++abandoned_at_most_;
    if (n.target == target_kind::left_behind) ++left_behind_;
  }
  at.cancels->fire();
  bool interrupted = false;
  if (stop) {
    gate asked;
    const std::stop_callback on_stop(*stop, [&] { asked.open(); });
    asked.wait();
  } else {
    n.release.wait();
  }
  switch (n.target) {
    case target_kind::left_behind: return n.id;
    case target_kind::abandon: raise(ending::aborted, n.id);
    case target_kind::interruptor:
      expect(n.interruptions == 1, n, "its interruptor was not called once");
      if (n.then != answer::give_up) break;
      try {
        boost::this_thread::interruption_point();
      } catch (const boost::thread_interrupted&) {
        interrupted = true;
      }
      expect(interrupted == is_of_library(here), n, "is interrupted on a user's thread, or not on one of the library's");
      break;
    default: break;
  }
  if (n.then == answer::value) return n.id;
  if (n.then == answer::raise) raise(*n.throws, n.id);
  if (interrupted) throw boost::thread_interrupted();
  raise(ending::aborted, n.id);
}

inline std::uint64_t interpreter::call_from_blocking(edge& e, place below) {
  node& n = *e.child;
  if (n.blocking && n.runs_on == place_kind::inline_in_parent) return blocking(n, below, nullptr);
  async_options options{.force_new_loop = e.force_new_loop};
  std::stop_source source;
  const trigger cancels{[&] {
    std::stop_source own = source;
    own.request_stop();
  }};
  if (e.guard == guard_kind::stop_token) {
    options.stop = source.get_token();
    below.cancels = &cancels;
  }
  if (e.guard == guard_kind::timeout) options.timeout = e.patience;

  loop_place fresh;
  if (!below.loop || e.force_new_loop) {
    fresh.owner = below.above->thread;
    below.loop = &fresh;
  } else if (!below.loop->serial) {
    fresh.what = below.loop->what;
    fresh.threads = below.loop->threads;
    fresh.context = below.loop->context;
    below.loop = &fresh;
  }
  std::exception_ptr failure;
  std::uint64_t value = 0;
  try {
    value = block_on(e, below, options);
  } catch (...) {
    failure = std::current_exception();
  }
  if (e.target) e.target->release.open();
  if (e.guard == guard_kind::timeout) return judge_race(e, failure, value, ending::timed_out);
  if (failure) std::rethrow_exception(failure);
  return value;
}

inline std::uint64_t interpreter::block_on(edge& e, place below, const async_options& options) {
  node& n = *e.child;
  if (n.blocking) return async_to_sync([&] { return await_child(e, below); }, options)();
  counted argument(n.id);
  const instance alive;
  switch (n.result) {
    case result_kind::object: {
      const auto call = async_to_sync(&interpreter::coroutine_object, options);
      return call(this, std::ref(n), below, std::move(argument)).value();
    }
    case result_kind::nothing: {
      std::uint64_t result = 0;
      const auto call = async_to_sync(&interpreter::coroutine_nothing, options);
      call(this, std::ref(n), below, std::move(argument), &result);
      return result;
    }
    default: {
      const auto call = async_to_sync(
          [this, &n, below, alive](counted passed) { return coroutine(n, below, std::move(passed)); }, options);
      return call(std::move(argument));
    }
  }
}

// --- roots

template <class Executor>
outcome interpreter::run_on_loop(asio::io_context& loop, const Executor& executor, bool second_thread) {
  thread_set drivers;
  root_loop_.threads = &drivers;
  root_loop_.context = &loop;
  const place at{&root_loop_, &process_, nullptr, nullptr};
  std::optional<outcome> end;
  asio::co_spawn(
      executor, [&] { return coroutine(*program_.top, at, counted(program_.top->id)); },
      [&](const std::exception_ptr& failure, std::uint64_t value) { end = outcome_of(failure, value); });
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
  const std::shared_ptr<void> strand_goes_first(nullptr, [this](void*) { root_loop_.inside = nullptr; });
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
    default: root_loop_.what = loop_place::kind::single; return run_on_loop(loop, loop.get_executor(), false);
  }
}

}  // namespace bothworlds::testing::random_program
