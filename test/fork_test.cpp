// SPDX-License-Identifier: BSL-1.0
//
// Forked children: of a process with a warm pool, of a busy one, from inside a callable. What has
// forked and goes on in the child where it came from: forked_child_test.cpp.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <thread>
#include <vector>

#include <sys/resource.h>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::errc;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

#if defined(TEST_UNDER_TSAN)
// A forked child may start threads.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

TEST_CASE(
    "fork_with_warm_pool: the child works, or gets forked_child; it does not "
    "hang" SKIPPED_UNDER_TSAN) {
  run_async_root([]() -> awaitable<void> {
    co_await answer();
    co_await sensitive_answer();
  });
  async_to_sync(answer)();
  worker_pool own_pool;
  auto on_own_pool = sync_to_async([] { return 42; }, {.pool = &own_pool});
  run_async_root([&]() -> awaitable<void> { co_await on_own_pool(); });

  auto works_or_says_so = [](auto attempt) {
    return exit_code_of_child([&] {
      try {
        return attempt() == 42 ? 42 : 1;
      } catch (const bothworlds::error& e) {
        return e.code() == errc::forked_child ? 42 : 2;
      }
    });
  };
  CHECK(works_or_says_so([] { return async_to_sync(answer)(); }) == 42);
  CHECK(works_or_says_so([] { return async_to_sync(sensitive_answer)(); }) == 42);
  CHECK(works_or_says_so([] {
          int got = 0;
          run_async_root([&]() -> awaitable<void> { got = co_await answer(); });
          return got;
        }) == 42);
  CHECK(works_or_says_so([] {
          int got = 0;
          run_async_root([&]() -> awaitable<void> { got = co_await sensitive_answer(); });
          return got;
        }) == 42);
  CHECK(works_or_says_so([&] {
          int got = 0;
          run_async_root([&]() -> awaitable<void> { got = co_await on_own_pool(); });
          return got;
        }) == 42);
  // The parent is none the worse.
  CHECK(async_to_sync(answer)() == 42);
  run_async_root([&]() -> awaitable<void> {
    const int got = co_await on_own_pool();
    CHECK(got == 42);
  });
}

TEST_CASE(
    "fork_with_warm_pool: forked at any moment, while the pool is "
    "busy" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  gate stop;
  std::vector<std::thread> hammers;
  for (int t = 0; t < 2; ++t)
    hammers.emplace_back([&] {
      run_async_root([&]() -> awaitable<void> {
        while (!stop.is_open()) {
          co_await answer();
          co_await sensitive_answer();
        }
      });
    });
  int good = 0;
  for (int i = 0; i < 20; ++i)
    good += exit_code_of_child([] {
              try {
                return async_to_sync(answer)();
              } catch (const bothworlds::error& e) {
                return e.code() == errc::forked_child ? 42 : 2;
              }
            }) == 42;
  stop.open();
  for (auto& hammer : hammers) hammer.join();
  CHECK(good == 20);
}

TEST_CASE(
    "test_multiprocessing: forked in a callable, before and after a nested "
    "call" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  for (bool sensitive : {false, true}) {
    run_async_root([=]() -> awaitable<void> {
      auto fork_in_callable = sync_to_async(
          [] {
            auto child = [] {
              // Neither the parent's loop nor its workers are here.
              return async_to_sync([]() -> awaitable<int> {
                co_await yield_to_loop();
                co_return 42;
              })();
            };
            int good = exit_code_of_child(child) == 42;
            async_to_sync(yield_to_loop)();
            good += exit_code_of_child(child) == 42;
            return good;
          },
          {.thread_sensitive = sensitive});
      const int good = co_await fork_in_callable();
      CHECK(good == 2);
    });
  }
}

TEST_CASE("thread_creation_fails: what no new thread can serve is served by a live one") {
#if defined(__SANITIZE_ADDRESS__) || defined(TEST_UNDER_TSAN)
  // The sanitizers' own mappings do not fit under a limit on the address space.
  MESSAGE("not under this sanitizer");
#else
  const int code = exit_code_of_child([] {
    // Stacks that no cache of the C library's has.
    worker_pool pool(worker_pool_options{.soft_limit = 4, .stack_size = std::size_t{64} << 20});
    int sum = 0;
    run_async_root([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      gate running, release;
      auto occupy = sync_to_async(
          [&] {
            running.open();
            release.wait();
            return 20;
          },
          {.pool = &pool});
      auto quick = sync_to_async([] { return 22; }, {.pool = &pool});
      int first = 0, second = 0;
      child_task occupant(executor, [&]() -> awaitable<void> { first = co_await occupy(); });
      co_await yield_to_loop();
      running.wait();
      // Not another such stack can be mapped now.
      std::size_t pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      const rlim_t limit =
          pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{16} << 20);
      const rlimit little_more{limit, limit};
      ::setrlimit(RLIMIT_AS, &little_more);
      child_task queued(executor, [&]() -> awaitable<void> { second = co_await quick(); });
      co_await yield_to_loop();
      release.open();
      co_await occupant.join();
      co_await queued.join();
      sum = first + second;
    });
    return sum;
  });
  CHECK(code == 42);
#endif
}

TEST_CASE("values that were set survive fork() in the thread that forks" SKIPPED_UNDER_TSAN) {
  const bothworlds::context_var<int> number("number", 7);
  number.set(3);
  CHECK(exit_code_of_child([&] {
          if (number.get() != 3) return 1;
          int seen = 0;
          async_to_sync([&]() -> awaitable<void> {
            seen = number.get();
            number.set(4);
            co_return;
          })();
          return seen == 3 && number.get() == 4 ? 0 : 2;
        }) == 0);
}

TEST_CASE(
    "fork_with_warm_pool: a limiter of the parent's answers with forked_child, also where its "
    "tokens were held" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  bothworlds::capacity_limiter one(1);
  auto forks = sync_to_async(
      [&] {
        return exit_code_of_child([&] {
          // The child's call ends below, in the child: it gives back nothing.
          auto call = sync_to_async([] { return 42; }, {.limiter = &one});
          boost::system::error_code code;
          auto attempt = [&]() -> awaitable<void> { code = co_await outcome(call); };
          async_to_sync(std::ref(attempt))();
          bothworlds::capacity_limiter own(1);
          auto works = sync_to_async([] { return 42; }, {.limiter = &own});
          return code == errc::forked_child && async_to_sync(std::ref(works))() == 42 ? 0 : 1;
        });
      },
      {.limiter = &one});
  CHECK(async_to_sync(std::ref(forks))() == 0);
  CHECK(one.stats().borrowed == 0);
}
