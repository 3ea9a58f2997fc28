// SPDX-License-Identifier: BSL-1.0
//
// Which idle worker is woken for a call, and that none is for a call which another worker is about to
// look for.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/gather.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task.hpp>
#include <bothworlds/worker_pool.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

using namespace bothworlds::testing;
using bothworlds::create_task;
using bothworlds::gather;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

namespace {

// A limit: in such a pool nobody looks out, and whoever is idle sleeps until it is woken.
worker_pool_options quiet(unsigned workers) {
  worker_pool_options options;
  options.soft_limit = workers;
  options.queue_limit = 64;
  options.idle_timeout = std::chrono::minutes(10);
  return options;
}

std::vector<int> usable_cpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  REQUIRE(::sched_getaffinity(0, sizeof mask, &mask) == 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  return cpus;
}

/// Ties the calling thread to a CPU, while it lives.
class tied {
public:
  explicit tied(int cpu) {
    CPU_ZERO(&before_);
    REQUIRE(::sched_getaffinity(0, sizeof before_, &before_) == 0);
    to(cpu);
  }
  ~tied() { ::sched_setaffinity(0, sizeof before_, &before_); }
  tied(const tied&) = delete;
  tied& operator=(const tied&) = delete;

  static void to(int cpu) {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpu, &mask);
    REQUIRE(::sched_setaffinity(0, sizeof mask, &mask) == 0);
  }

private:
  cpu_set_t before_;
};

/// Workers that each have their CPU, in turns, and are all asleep but for what a test has them do.
class tied_workers {
public:
  tied_workers(unsigned count, std::vector<int> cpus)
      : cpus_(std::move(cpus)), pool_(with_hook(count)) {
    run_async_root([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      std::latch all_run(count);
      auto call = sync_to_async([&] { all_run.arrive_and_wait(); }, {.pool = &pool_});
      std::vector<child_task> calls;
      for (unsigned i = 0; i < count; ++i) calls.emplace_back(executor, [&] { return call(); });
      for (auto& one : calls) co_await one.join();
    });
    REQUIRE(cpu_of_.size() == count);
  }

  worker_pool& pool() noexcept { return pool_; }
  /// Of the worker that calls it.
  int cpu() const { return cpu_of_.at(kernel_thread_id()); }
  bool all_sleep() const {
    for (const auto& [thread, cpu] : cpu_of_)
      if (!thread_sleeps(thread)) return false;
    return true;
  }

  /// How often each of them has gone to sleep.
  std::map<long, long> switches() const {
    std::map<long, long> counts;
    for (const auto& [thread, cpu] : cpu_of_) counts[thread] = voluntary_switches(thread);
    return counts;
  }

private:
  worker_pool_options with_hook(unsigned count) {
    worker_pool_options options = quiet(count);
    options.on_thread_start = [this] {
      const std::lock_guard lock(mutex_);
      const int cpu = cpus_[cpu_of_.size() % cpus_.size()];
      cpu_of_[kernel_thread_id()] = cpu;
      tied::to(cpu);
    };
    return options;
  }

  const std::vector<int> cpus_;
  std::mutex mutex_;
  std::map<long, int> cpu_of_;  // mutex_ until all have started, then constant
  worker_pool pool_;
};

// The thread that has set this waits where it has woken a loop, until this is reset.
std::atomic<long> held_while_it_wakes{0};
std::atomic<bool> has_been_held{false};

/// On a loop of the library's, which knows whether it has anything else to do.
template <class F>
void on_own_loop(F coroutine_fn) {
  bothworlds::async_to_sync(std::move(coroutine_fn))();
}

// So often has a loop to wait awake in vain until it does so only once in 256 times.
constexpr int until_used_to_sleep = 260;

void wait_until_asleep(long thread) {
  CHECK(comes_true([&] { return thread_sleeps(thread); }));
}

/// For a call of the calling loop's: says on which thread it runs, and ends once the loop sleeps. So it
/// does not pay for the loop to wait awake, which it would do again otherwise.
auto after_the_loop_sleeps() {
  return [loop_thread = static_cast<long>(kernel_thread_id())] {
    const long here = kernel_thread_id();
    // The loop's thread may help out where no worker was free, and a helper turns the loop.
    if (here != loop_thread) wait_until_asleep(loop_thread);
    return here;
  };
}

}  // namespace

// Instead of the C library's: it is by this that Asio wakes a loop that has neither timers nor sockets,
// with none of its mutexes held; so here a worker can be held in the midst of it.
extern "C" int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  static const auto real =
      reinterpret_cast<int (*)(pthread_cond_t*)>(::dlsym(RTLD_NEXT, "pthread_cond_signal"));
  const int result = real(condition);
  if (const long held = held_while_it_wakes.load(); held != 0 && held == kernel_thread_id()) {
    has_been_held = true;
    held_while_it_wakes.wait(held);
  }
  return result;
}

TEST_CASE("a call that its loop goes to sleep for is given to the idle worker of that loop's CPU") {
  const std::vector<int> cpus = usable_cpus();
  if (cpus.size() < 2) return;
  tied_workers workers(2, {cpus[0], cpus[1]});
  const tied here(cpus[0]);
  on_own_loop([&]() -> awaitable<void> {
    const long loop_thread = kernel_thread_id();
    auto call = sync_to_async(
        [&] {
          wait_until_asleep(loop_thread);
          return workers.cpu();
        },
        {.pool = &workers.pool()});
    int near = 0;
    for (int i = 0; i < until_used_to_sleep + 64; ++i) {
      const int cpu = cpus[i % 2U];
      tied::to(cpu);
      CHECK(comes_true([&] { return workers.all_sleep(); }));
      const int used = co_await call();
      if (i >= until_used_to_sleep) near += used == cpu;
    }
    // One that it waits awake for is better off elsewhere.
    CHECK(near >= 62);
  });
}

TEST_CASE("of two calls that begin together one goes to an idle worker elsewhere") {
  const std::vector<int> cpus = usable_cpus();
  if (cpus.size() < 2) return;
  tied_workers workers(4, {cpus[0], cpus[0], cpus[1], cpus[1]});
  const tied here(cpus[0]);
  on_own_loop([&]() -> awaitable<void> {
    const long loop_thread = kernel_thread_id();
    int apart = 0;
    for (int i = 0; i < until_used_to_sleep + 64; ++i) {
      CHECK(comes_true([&] { return workers.all_sleep(); }));
      std::latch both_run(2);
      auto call = sync_to_async(
          [&] {
            both_run.arrive_and_wait();
            wait_until_asleep(loop_thread);
            return workers.cpu();
          },
          {.pool = &workers.pool()});
      const auto [first, second] = co_await gather(call(), call());
      if (i >= until_used_to_sleep) apart += first != second;
    }
    CHECK(apart >= 62);
  });
}

TEST_CASE(
    "where none is near the loop, and two are in one other place, one of those is woken too") {
  const std::vector<int> cpus = usable_cpus();
  if (cpus.size() < 2) return;
  tied_workers workers(2, {cpus[1]});
  const tied here(cpus[0]);
  on_own_loop([&]() -> awaitable<void> {
    int woken = 0;
    for (int i = 0; i < until_used_to_sleep + 64; ++i) {
      CHECK(comes_true([&] { return workers.all_sleep(); }));
      const auto before = workers.switches();
      auto call = sync_to_async(after_the_loop_sleeps(), {.pool = &workers.pool()});
      const long used = co_await call();
      CHECK(comes_true([&] { return workers.all_sleep(); }));
      if (i < until_used_to_sleep) continue;
      for (const auto& [thread, count] : workers.switches())
        woken += thread != used && count != before.at(thread);
    }
    CHECK(woken >= 62);
  });
}

namespace {

/// A pool of two, of which one, sixteen times, is held where it has ended its call and wakes the loop that
/// waits for that; what `round` says then, counted. A loop that is used to sleep waits awake no more than
/// once in all those rounds.
template <class Round>
int rounds_while_one_returns(Round round) {
  worker_pool pool(quiet(2));
  int as_wanted = 0;
  on_own_loop([&]() -> awaitable<void> {
    const long loop_thread = kernel_thread_id();
    std::latch both_run(2);
    auto which = sync_to_async(
        [&] {
          both_run.arrive_and_wait();
          return kernel_thread_id();
        },
        {.pool = &pool});
    const auto [one, other] = co_await gather(which(), which());
    auto slow = sync_to_async(after_the_loop_sleeps(), {.pool = &pool});
    for (int i = 0; i < until_used_to_sleep; ++i) co_await slow();
    auto ends = sync_to_async(
        [&] {
          wait_until_asleep(loop_thread);
          held_while_it_wakes = kernel_thread_id();
          return kernel_thread_id();
        },
        {.pool = &pool});
    for (int i = 0; i < 16; ++i) {
      CHECK(comes_true([&] { return thread_sleeps(one) && thread_sleeps(other); }));
      has_been_held = false;
      // A helper may have turned the loop meanwhile: then it is not its thread's sleep that counts.
      while (kernel_thread_id() != loop_thread) co_await yield_to_loop();
      const long returning = co_await ends();
      CHECK(comes_true([] { return has_been_held.load(); }));
      const long idle = returning == one ? other : one;
      // It may have been woken, too, because it was in the same place.
      wait_until_asleep(idle);
      as_wanted += co_await round(pool, returning, idle);
    }
  });
  return as_wanted;
}

void let_it_return() {
  held_while_it_wakes = 0;
  held_while_it_wakes.notify_all();
}

/// Goes on once the loop's own queue, which would say that it goes on, is empty.
awaitable<void> pass_through_asio() {
  const auto executor = co_await asio::this_coro::executor;
  auto& context = static_cast<asio::io_context&>(asio::query(executor, asio::execution::context));
  co_await asio::post(context.get_executor(), asio::use_awaitable);
}

}  // namespace

TEST_CASE("nobody is woken for a call that comes while a worker is about to return from another") {
  const int rounds =
      rounds_while_one_returns([](worker_pool& pool, long returning, long idle) -> awaitable<bool> {
        const long before = voluntary_switches(idle);
        auto observer = []() -> awaitable<void> {
          co_await pass_through_asio();
          let_it_return();
        };
        auto which = sync_to_async(after_the_loop_sleeps(), {.pool = &pool});
        const auto observes = co_await create_task(observer());
        co_await yield_to_loop();
        const long used = co_await which();
        co_await observes.join();
        CHECK(pool.stats().threads == 2);
        const bool undisturbed = thread_sleeps(idle) && voluntary_switches(idle) == before;
        co_return undisturbed&& used == returning;
      });
  CHECK(rounds >= 15);
}

TEST_CASE("one is woken for the second call that comes while a worker is about to return") {
  const int rounds =
      rounds_while_one_returns([](worker_pool& pool, long, long idle) -> awaitable<bool> {
        const long before = voluntary_switches(idle);
        const auto is_woken = [&] {
          return !thread_sleeps(idle) || voluntary_switches(idle) != before;
        };
        auto call = sync_to_async(after_the_loop_sleeps(), {.pool = &pool});
        bool woken_for_first = false;
        auto second = [&]() -> awaitable<void> {
          co_await pass_through_asio();
          woken_for_first = is_woken();
          co_await call();
        };
        auto observer = [&]() -> awaitable<void> {
          co_await pass_through_asio();
          CHECK(is_woken());
          let_it_return();
        };
        const auto comes_second = co_await create_task(second());
        const auto observes = co_await create_task(observer());
        co_await yield_to_loop();
        co_await call();
        co_await comes_second.join();
        co_await observes.join();
        co_return !woken_for_first;
      });
  CHECK(rounds >= 15);
}
