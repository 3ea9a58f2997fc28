// SPDX-License-Identifier: BSL-1.0

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/use_future.hpp>
#include <doctest/doctest.h>

#include <csignal>
#include <future>
#include <latch>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::errc;
using bothworlds::on_full;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

TEST_CASE("no thread is started before the first call") {
  const int before = kernel_thread_count();
  worker_pool pool;
  CHECK(kernel_thread_count() == before);
  CHECK(pool.stats().threads == 0);
}

TEST_CASE(
    "the pool grows to its soft limit, one thread for a call that finds no idle one, and no "
    "further") {
  worker_pool pool(worker_pool_options{.soft_limit = 3});
  std::set<long> threads;
  std::mutex mutex;
  in_flight inside;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate release;
    std::latch three_running(3);
    auto call = sync_to_async(
        [&] {
          in_flight::visit here(inside);
          {
            std::lock_guard lock(mutex);
            threads.insert(kernel_thread_id());
          }
          if (!three_running.try_wait()) three_running.count_down();
          release.wait();
        },
        {.pool = &pool});
    std::vector<child_task> calls;
    for (int i = 0; i < 3; ++i) calls.emplace_back(executor, [&] { return call(); });
    co_await yield_to_loop();
    three_running.wait();
    for (int i = 0; i < 7; ++i) calls.emplace_back(executor, [&] { return call(); });
    co_await yield_to_loop();
    const auto stats = pool.stats();
    CHECK(stats.threads == 3);
    CHECK(stats.busy == 3);
    CHECK(stats.blocked_in_bridge == 0);
    CHECK(stats.queued == 7);
    CHECK(stats.compensations == 0);
    release.open();
    for (auto& one : calls) co_await one.join();
    const bool counted = co_await comes_true_on_loop([&] { return pool.stats().completed == 10; });
    CHECK(counted);
    CHECK(pool.stats().queued == 0);
    CHECK(pool.stats().oldest_queued.count() == 0);
  });
  CHECK(threads.size() == 3);
  CHECK(inside.max() == 3);
}

TEST_CASE("calls that find an idle worker use it, and start no other") {
  worker_pool pool(worker_pool_options{.soft_limit = 8});
  std::set<long> threads;
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async(kernel_thread_id, {.pool = &pool});
    for (int i = 0; i < 100; ++i) {
      const long id = co_await call();
      threads.insert(id);
      const bool idle = co_await comes_true_on_loop([&] { return pool.stats().busy == 0; });
      CHECK(idle);
    }
  });
  CHECK(threads.size() == 1);
  CHECK(pool.stats().threads == 1);
}

TEST_CASE("a worker that has been handed a call is not free for the next one") {
  for (int round = 0; round < 3000; ++round) {
    worker_pool pool(worker_pool_options{.soft_limit = 2});
    gate opened, ended;
    run_async_root([&]() -> awaitable<void> {
      const auto brief = sync_to_async([] {}, {.pool = &pool});
      co_await brief();
      // Now there is one worker, and it looks for more. It gets the first, and is not done when the
      // second comes.
      asio::post(pool.get_executor(), [&] {
        opened.wait();
        ended.open();
      });
      asio::post(pool.get_executor(), [&] { opened.open(); });
    });
    ended.wait();
  }
}

TEST_CASE("a callable that blocks amid short ones does not hold up those that come after it") {
  worker_pool pool(worker_pool_options{.soft_limit = 2});
  for (int round = 0; round < 100; ++round)
    run_async_root([&]() -> awaitable<void> {
      const auto executor = co_await asio::this_coro::executor;
      // So many that nobody is woken for each of them any more.
      const auto brief = sync_to_async([] {}, {.pool = &pool});
      const auto many = [&]() -> awaitable<void> {
        for (int i = 0; i < 100; ++i) co_await brief();
      };
      std::vector<child_task> storm;
      for (int i = 0; i < 20; ++i) storm.emplace_back(executor, many);
      for (const child_task& each : storm) co_await each.join();

      gate opened;
      const auto blocks = sync_to_async([&] { opened.wait(); }, {.pool = &pool});
      const auto opens = sync_to_async([&] { opened.open(); }, {.pool = &pool});
      const child_task first(executor, [&] { return blocks(); });
      const child_task second(executor, [&] { return opens(); });
      co_await first.join();
      co_await second.join();
    });
}

TEST_CASE("idle workers leave, and come back when they are needed") {
  worker_pool pool(
      worker_pool_options{.soft_limit = 2, .idle_timeout = std::chrono::milliseconds(5)});
  for (int round = 0; round < 3; ++round) {
    long id = 0;
    run_async_root([&]() -> awaitable<void> {
      auto call = sync_to_async(kernel_thread_id, {.pool = &pool});
      id = co_await call();
    });
    CHECK(id != 0);
    CHECK(comes_true([&] { return pool.stats().threads == 0; }));
    CHECK(comes_true([&] { return !thread_exists(id); }));
  }
}

namespace {

/// A pool for one callable at a time that may have three threads, and counts their hooks.
struct small_pool {
  explicit small_pool(std::chrono::milliseconds idle_timeout) : pool(options(idle_timeout)) {}

  worker_pool_options options(std::chrono::milliseconds idle_timeout) {
    worker_pool_options with{.soft_limit = 1, .hard_limit = 3, .idle_timeout = idle_timeout};
    with.on_thread_start = [this] { ++starts; };
    with.on_thread_stop = [this] { ++stops; };
    return with;
  }
  /// Blocks three workers at once; when they go on, two of them are surplus. Returns their threads.
  std::set<long> block_three() {
    std::mutex mutex;
    std::set<long> threads;
    std::latch all_blocked(3);
    run_async_root([&]() -> awaitable<void> {
      const auto block = [&] {
        const bothworlds::blocking_region region;
        {
          const std::lock_guard lock(mutex);
          threads.insert(kernel_thread_id());
        }
        all_blocked.arrive_and_wait();
      };
      auto call = sync_to_async(block, {.pool = &pool});
      const auto executor = co_await asio::this_coro::executor;
      child_task first(executor, [&] { return call(); });
      child_task second(executor, [&] { return call(); });
      child_task third(executor, [&] { return call(); });
      co_await first.join();
      co_await second.join();
      co_await third.join();
    });
    CHECK(comes_true([&] { return pool.stats().threads <= 1; }));
    return threads;
  }

  std::atomic<int> starts{0}, stops{0};
  worker_pool pool;
};

}  // namespace

TEST_CASE("surplus workers leave, and their threads come back when more are wanted again") {
  std::optional<small_pool> small(std::in_place, std::chrono::hours(1));
  const std::set<long> threads = small->block_three();
  CHECK(threads.size() == 3);
  for (unsigned round = 2; round <= 5; ++round) {
    CHECK(small->block_three() == threads);
    CHECK(small->pool.stats().compensations == 2 * round);
  }
  CHECK(small->starts == 3);
  CHECK(small->stops == 0);
  // Neither does the pool wait for them when it goes.
  CHECK(small->pool.shutdown(std::chrono::minutes(1)).empty());
  CHECK(small->stops == 3);
  for (const long id : threads) CHECK(!thread_exists(id));
}

TEST_CASE("a thread that no worker has come back to for idle_timeout ends") {
  small_pool small(std::chrono::milliseconds(5));
  for (int round = 1; round <= 3; ++round) {
    const std::set<long> threads = small.block_three();
    for (const long id : threads) CHECK(comes_true([&] { return !thread_exists(id); }));
    CHECK(small.starts == 3 * round);
    CHECK(small.stops == 3 * round);
  }
}

TEST_CASE("a thread that has rested in vain counts as no blocked worker while its hook blocks") {
  std::latch both_blocked(2);
  std::atomic<int> stops{0};
  std::atomic<std::size_t> blocked{0};
  worker_pool* observed = nullptr;
  {
    worker_pool_options options{
        .soft_limit = 1, .hard_limit = 3, .idle_timeout = std::chrono::milliseconds(5)};
    options.on_thread_stop = [&] {
      if (++stops > 2) return;  // of the one that was no surplus
      const bothworlds::blocking_region region;
      both_blocked.arrive_and_wait();
      blocked += observed->stats().blocked_in_bridge;
    };
    worker_pool pool(options);
    observed = &pool;
    std::latch all_running(3);
    gate at_work, stays;
    const auto block = [&](bool last) {
      {
        const bothworlds::blocking_region region;
        all_running.arrive_and_wait();
      }
      // The surplus leaves while this one is at work, and blocked no more.
      if (!last) return at_work.wait();
      at_work.open();
      stays.wait();
    };
    run_async_root([&]() -> awaitable<void> {
      const auto executor = co_await asio::this_coro::executor;
      const auto call = sync_to_async(block, {.pool = &pool});
      const child_task first(executor, [&] { return call(false); });
      const child_task second(executor, [&] { return call(false); });
      const child_task third(executor, [&] { return call(true); });
      co_await comes_true_on_loop([&] { return stops == 2; });
      stays.open();
      co_await first.join();
      co_await second.join();
      co_await third.join();
    });
  }
  CHECK(blocked == 0);
  CHECK(stops == 3);
}

TEST_CASE("calls that come while workers leave are not lost") {
  worker_pool pool(
      worker_pool_options{.soft_limit = 2, .idle_timeout = std::chrono::milliseconds(1)});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    int sum = 0;
    auto call = sync_to_async([] { return 1; }, {.pool = &pool});
    for (int i = 0; i < 300; ++i) {
      const int one = co_await call();
      sum += one;
      timer.expires_after(std::chrono::microseconds(900 + i));
      co_await timer.async_wait(asio::use_awaitable);
    }
    CHECK(sum == 300);
  });
}

TEST_CASE("the operating system's threads carry the pool's name") {
  worker_pool pool(worker_pool_options{.name = "alpha"});
  worker_pool long_named(worker_pool_options{.name = "a-name-of-more-than-fifteen"});
  run_async_root([&]() -> awaitable<void> {
    auto name = [] { return thread_name(kernel_thread_id()); };
    auto call = sync_to_async(name, {.pool = &pool});
    const std::string got = co_await call();
    CHECK(got.starts_with("alpha-"));
    auto long_call = sync_to_async(name, {.pool = &long_named});
    const std::string cut = co_await long_call();
    CHECK(cut.starts_with("a-name-of"));
    auto default_call = sync_to_async(name);
    const std::string of_default = co_await default_call();
    CHECK(of_default.starts_with("bothworlds"));
  });
}

TEST_CASE("hooks run on the worker: one at its start, one at its end") {
  std::mutex mutex;
  std::vector<long> started, stopped;
  long ran_on = 0;
  {
    worker_pool_options options{.soft_limit = 1};
    options.on_thread_start = [&] {
      std::lock_guard lock(mutex);
      started.push_back(kernel_thread_id());
    };
    options.on_thread_stop = [&] {
      std::lock_guard lock(mutex);
      stopped.push_back(kernel_thread_id());
    };
    worker_pool pool(options);
    run_async_root([&]() -> awaitable<void> {
      auto call = sync_to_async(
          [&] {
            std::lock_guard lock(mutex);
            CHECK(started.size() == 1);
            CHECK(stopped.empty());
            return kernel_thread_id();
          },
          {.pool = &pool});
      ran_on = co_await call();
    });
  }
  CHECK(comes_true([&] {
    std::lock_guard lock(mutex);
    return !stopped.empty();
  }));
  std::lock_guard lock(mutex);
  CHECK(started == std::vector<long>{ran_on});
  CHECK(stopped == std::vector<long>{ran_on});
}

TEST_CASE("throwing_observer: hooks that throw cost nobody a call, nor the pool its thread") {
  std::atomic<int> starts{0}, stops{0};
  {
    worker_pool_options options{.soft_limit = 2, .idle_timeout = std::chrono::milliseconds(5)};
    options.on_thread_start = [&] {
      ++starts;
      throw std::runtime_error("start hook");
    };
    options.on_thread_stop = [&] {
      ++stops;
      throw 42;
    };
    worker_pool pool(options);
    for (int round = 0; round < 2; ++round) {
      run_async_root([&]() -> awaitable<void> {
        auto call = sync_to_async([] { return 42; }, {.pool = &pool});
        for (int i = 0; i < 10; ++i) {
          const int got = co_await call();
          CHECK(got == 42);
        }
      });
      CHECK(comes_true([&] { return pool.stats().threads == 0; }));
    }
    CHECK(pool.stats().completed == 20);
  }
  CHECK(starts >= 2);
  CHECK(comes_true([&] { return stops == starts; }));
}

TEST_CASE("all signals are blocked in workers") {
  run_async_root([]() -> awaitable<void> {
    auto unblocked = sync_to_async([] {
      sigset_t mask;
      pthread_sigmask(SIG_BLOCK, nullptr, &mask);
      int open = 0;
      for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGPIPE})
        open += !sigismember(&mask, signal);
      return open;
    });
    const int open = co_await unblocked();
    CHECK(open == 0);
  });
  // The thread that starts a worker keeps its own mask.
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  CHECK_FALSE(sigismember(&mask, SIGTERM));
}

TEST_CASE("get_executor serves plain Asio code") {
  worker_pool pool(worker_pool_options{.name = "beta"});
  auto executor = pool.get_executor();
  const long self = kernel_thread_id();
  const auto name_of_this = [] { return thread_name(kernel_thread_id()); };

  auto posted = asio::post(executor, asio::use_future(name_of_this));
  CHECK(posted.get().starts_with("beta-"));

  auto spawned = asio::co_spawn(
      executor,
      []() -> awaitable<long> {
        co_await yield_to_loop();
        co_return kernel_thread_id();
      },
      asio::use_future);
  CHECK(spawned.get() != self);

  asio::io_context loop;
  asio::steady_timer timer(loop, std::chrono::milliseconds(1));
  std::promise<std::string> fired;
  timer.async_wait(asio::bind_executor(
      executor, [&](boost::system::error_code) { fired.set_value(name_of_this()); }));
  loop.run();
  CHECK(fired.get_future().get().starts_with("beta-"));
  CHECK(executor == pool.get_executor());
}

TEST_CASE("a function that throws on get_executor leaves the pool as it was") {
  worker_pool pool(worker_pool_options{.soft_limit = 1});
  asio::post(pool.get_executor(), [] { throw std::runtime_error("reported on stderr"); });
  auto next = asio::post(pool.get_executor(), asio::use_future([] { return 42; }));
  CHECK(next.get() == 42);
}

TEST_CASE("queue_limit: reject fails the call with queue_full, and the callable is not touched") {
  worker_pool pool(worker_pool_options{
      .soft_limit = 1, .hard_limit = 1, .queue_limit = 1, .when_full = on_full::reject});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running, release;
    auto occupy = sync_to_async(
        [&] {
          running.open();
          release.wait();
        },
        {.pool = &pool});
    std::atomic<int> ran{0};
    auto call = sync_to_async([&] { ++ran; }, {.pool = &pool});
    child_task occupant(executor, [&] { return occupy(); });
    co_await yield_to_loop();
    running.wait();
    child_task queued(executor, [&] { return call(); });
    co_await yield_to_loop();
    const auto refused = co_await outcome(call);
    CHECK(refused == errc::queue_full);
    CHECK(ran == 0);
    release.open();
    co_await occupant.join();
    co_await queued.join();
    CHECK(ran == 1);
    co_await call();
    CHECK(ran == 2);
  });
}

TEST_CASE("queue_limit: caller_runs runs the callable on the awaiting loop's thread") {
  worker_pool pool(worker_pool_options{
      .soft_limit = 1, .hard_limit = 1, .queue_limit = 1, .when_full = on_full::caller_runs});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running, release;
    auto occupy = sync_to_async(
        [&] {
          running.open();
          release.wait();
        },
        {.pool = &pool});
    auto where = sync_to_async(kernel_thread_id, {.pool = &pool});
    auto fails = sync_to_async([] { throw 7; }, {.pool = &pool});
    child_task occupant(executor, [&] { return occupy(); });
    co_await yield_to_loop();
    running.wait();
    long queued_ran_on = 0;
    child_task queued(executor, [&]() -> awaitable<void> { queued_ran_on = co_await where(); });
    co_await yield_to_loop();
    const long ran_on = co_await where();
    CHECK(ran_on == kernel_thread_id());
    int thrown = 0;
    try {
      co_await fails();
    } catch (int n) {
      thrown = n;
    }
    CHECK(thrown == 7);
    release.open();
    co_await occupant.join();
    co_await queued.join();
    CHECK(queued_ran_on != kernel_thread_id());
  });
}

TEST_CASE("queue_limit: suspend makes the call wait until there is room, and loses none") {
  worker_pool pool(worker_pool_options{
      .soft_limit = 1, .hard_limit = 1, .queue_limit = 2, .when_full = on_full::suspend});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    std::atomic<int> ran{0};
    auto call = sync_to_async([&] { ++ran; }, {.pool = &pool});
    std::vector<child_task> calls;
    for (int i = 0; i < 100; ++i) calls.emplace_back(executor, [&] { return call(); });
    for (auto& one : calls) co_await one.join();
    CHECK(ran == 100);
  });
}

TEST_CASE(
    "queue_limit: a function given to get_executor never runs inside execute(), also with "
    "caller_runs") {
  worker_pool pool(worker_pool_options{
      .soft_limit = 1, .hard_limit = 1, .queue_limit = 0, .when_full = on_full::caller_runs});
  gate running, release;
  asio::post(pool.get_executor(), [&] {
    running.open();
    release.wait();
  });
  running.wait();
  auto ran_on = asio::post(pool.get_executor(), asio::use_future(kernel_thread_id));
  CHECK(pool.stats().queued == 1);
  release.open();
  CHECK(ran_on.get() != kernel_thread_id());
}

TEST_CASE(
    "stats: the age of the oldest queued call grows while it waits, and is 0 when none does") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  gate running, release;
  asio::post(pool.get_executor(), [&] {
    running.open();
    release.wait();
  });
  running.wait();
  CHECK(pool.stats().oldest_queued.count() == 0);
  auto oldest = asio::post(pool.get_executor(), asio::use_future([] { return 1; }));
  CHECK(comes_true([&] { return pool.stats().oldest_queued.count() >= 5; }));
  auto younger = asio::post(pool.get_executor(), asio::use_future([] { return 2; }));
  CHECK(pool.stats().oldest_queued.count() >= 5);
  release.open();
  CHECK(oldest.get() + younger.get() == 3);
  CHECK(pool.stats().oldest_queued.count() == 0);
}

TEST_CASE("limits that contradict each other are refused") {
  boost::system::error_code code;
  try {
    worker_pool pool(worker_pool_options{.soft_limit = 4, .hard_limit = 2});
  } catch (const bothworlds::misuse_error& e) {
    code = e.code();
  }
  CHECK(code == errc::invalid_options);
}

TEST_CASE("the default pool is one for the process") {
  worker_pool* from_a_thread = nullptr;
  std::thread([&] { from_a_thread = &bothworlds::default_worker_pool(); }).join();
  CHECK(from_a_thread == &bothworlds::default_worker_pool());
}
