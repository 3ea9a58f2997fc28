// SPDX-License-Identifier: BSL-1.0
#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"
#include "support/wait_reports.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_portal.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/deadlock.hpp>

#include <boost/asio/detached.hpp>
#include <doctest/doctest.h>

#include <atomic>
#include <barrier>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds;
using namespace bothworlds::testing;

namespace {

/// Callables that each hold one limiter and, once all of them do, wait for the next one's: a ring
/// of waits.
class ring {
public:
  explicit ring(std::size_t size, async_options second = {})
      : all_hold_(static_cast<std::ptrdiff_t>(size)), second_(second) {
    for (std::size_t i = 0; i < size; ++i) limiters_.emplace_back(1U);
  }

  /// One member, as a coroutine of the loop that runs it.
  awaitable<void> member(std::size_t index) {
    auto body = [this, index] { hold_and_wait(index); };
    auto call = sync_to_async(body, {.limiter = &limiters_[index], .name = "first"});
    co_await call();
  }

  /// All members, as children of one loop. How many of them ended with deadlock_error.
  awaitable<int> run() {
    const auto executor = co_await asio::this_coro::executor;
    std::deque<child_task> members;
    for (std::size_t i = 0; i < limiters_.size(); ++i) {
      auto one = [this, i] { return member(i); };
      members.emplace_back(executor, one);
    }
    int refused = 0;
    for (const child_task& one : members) {
      try {
        co_await one.join();
      } catch (const deadlock_error& e) {
        ++refused;
        report = e.report();
        json = e.report(report_format::json);
        dot = e.report(report_format::dot);
      }
    }
    co_return refused;
  }

  capacity_limiter& limiter(std::size_t index) { return limiters_[index]; }

  std::string report, json, dot;  // of the deadlock_error

private:
  void hold_and_wait(std::size_t index) {
    all_hold_.arrive_and_wait();
    auto inner = [this, index]() -> awaitable<void> {
      auto nothing = sync_to_async(
          [] {}, {.limiter = &limiters_[(index + 1) % limiters_.size()], .name = "second"});
      co_await nothing();
    };
    async_to_sync(inner, second_)();
  }

  std::deque<capacity_limiter> limiters_;
  std::barrier<> all_hold_;
  const async_options second_;
};

template <class F>
auto from_main(F coroutine_fn) {
  return async_to_sync(coroutine_fn)();
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE(
    "two calls that wait for each other's limiter: the youngest ends with deadlock_error, the "
    "other goes on") {
  wait_reports reports;
  ring two(2);
  CHECK(from_main([&] { return two.run(); }) == 1);
  CHECK(reports.count(wait_report::kind::deadlock) == 1);
  CHECK(two.limiter(0).stats().borrowed == 0);
  CHECK(two.limiter(1).stats().borrowed == 0);
}

TEST_CASE(
    "the report of a deadlock names every thread with its kernel id, every call with its place, "
    "and the fix") {
  wait_reports reports;
  ring two(2);
  REQUIRE(from_main([&] { return two.run(); }) == 1);
  CAPTURE(two.report);
  CHECK(has(two.report, "2 threads wait for each other") ==
        false);  // the summary is the error's own
  CHECK(has(two.report, "deadlock"));
  CHECK(has(two.report, "thread 'bothworlds-"));
  CHECK(has(two.report, "async_to_sync at "));
  CHECK(has(two.report, "sync_to_async \"first\" at "));
  CHECK(has(two.report, "sync_to_async \"second\" at "));
  CHECK(has(two.report, "deadlock_test.cpp:"));
  CHECK(has(two.report, "a capacity limiter with 1 token taken"));
  CHECK(has(two.report, "refused "));
  CHECK(has(two.report, "fix "));
  CAPTURE(two.json);
  CHECK(has(two.json, "\"kind\":\"deadlock\""));
  CHECK(has(two.json, "\"kernel_id\":"));
  CHECK(has(two.json, "\"label\":\"queued for\""));
  CAPTURE(two.dot);
  CHECK(has(two.dot, "digraph waits {"));
  CHECK(has(two.dot, "[label=\"held by\"]"));
}

TEST_CASE("a cycle of three, and one with a tail behind it, is found and named") {
  wait_reports reports;
  ring three(3);
  const int refused = from_main([&]() -> awaitable<int> {
    const auto executor = co_await asio::this_coro::executor;
    auto cycle = [&]() -> awaitable<void> { CHECK(co_await three.run() == 1); };
    const child_task members(executor, cycle);
    // Hangs behind the cycle, holds nothing that it needs, and is not made its victim.
    auto nothing = [] {};
    auto tail = [&]() -> awaitable<void> {
      auto call = sync_to_async(nothing, {.limiter = &three.limiter(0), .name = "tail"});
      co_await call();
    };
    const child_task behind(executor, tail);
    co_await behind.join();
    co_await members.join();
    co_return 0;
  });
  CHECK(refused == 0);
  CHECK(reports.count(wait_report::kind::deadlock) == 1);
}

TEST_CASE("a cycle through the lane of thread-sensitive calls and a limiter is found") {
  wait_reports reports;
  capacity_limiter limiter(1);
  std::barrier<> both_hold(2);
  int refused = 0;
  const auto waits_for = [&](sync_options options) {
    return [&, options] {
      both_hold.arrive_and_wait();
      auto inner = [&]() -> awaitable<void> {
        auto nothing = sync_to_async([] {}, options);
        co_await nothing();
      };
      async_to_sync(inner)();
    };
  };
  run_async_root([&]() -> awaitable<void> {
    // Bare coroutines of an async root: the lane is the process's, and they are two chains.
    const auto executor = co_await asio::this_coro::executor;
    const auto member = [&](sync_options first, sync_options second) -> awaitable<void> {
      auto body = waits_for(second);
      auto call = sync_to_async(body, first);
      try {
        co_await call();
      } catch (const deadlock_error&) {
        ++refused;
      }
    };
    auto one = [&] { return member(thread_sensitive, {.limiter = &limiter}); };
    auto other = [&] { return member({.limiter = &limiter}, thread_sensitive); };
    const child_task a(executor, one);
    const child_task b(executor, other);
    co_await a.join();
    co_await b.join();
  });
  CHECK(refused == 1);
}

TEST_CASE(
    "blocked_before_detector: a deadlock that only was reported is ended once the policy says so") {
  wait_reports reports(on_deadlock::report_only);
  ring two(2);
  std::thread other([&] {
    const wait_report first = reports.first(wait_report::kind::deadlock);
    CHECK(first.number() > 0);
    reports.configure(on_deadlock::throw_error);
  });
  CHECK(from_main([&] { return two.run(); }) == 1);
  other.join();
  CHECK(reports.count(wait_report::kind::deadlock) == 1);
}

TEST_CASE("ticking_timer_hides_cycle: timers that tick on the loop hide nothing") {
  wait_reports reports;
  ring two(2);
  const int refused = from_main([&]() -> awaitable<int> {
    const auto executor = co_await asio::this_coro::executor;
    const heartbeat ticking(executor);
    co_return co_await two.run();
  });
  CHECK(refused == 1);
}

TEST_CASE("what can end by itself is no deadlock: a timeout") {
  wait_reports reports;
  ring two(2, {.timeout = std::chrono::milliseconds(1500)});
  const int refused = from_main([&]() -> awaitable<int> {
    int deadlocks = 0;
    try {
      deadlocks = co_await two.run();
    } catch (const error& e) {
      CHECK(e.code() == errc::timed_out);
    }
    co_return deadlocks;
  });
  CHECK(refused == 0);
  CHECK(reports.count(wait_report::kind::deadlock) == 0);
}

TEST_CASE(
    "raw_thread_join: sync code that joins a thread which needs its lane is a stall, reported and "
    "taken back") {
  wait_reports reports(on_deadlock::throw_error, std::chrono::milliseconds(300));
  gate let_go;
  std::thread raw;
  run_async_root([&]() -> awaitable<void> {
    auto holder = [&] {
      // Its loop needs the lane that this callable holds. The join is played by a gate, so that the
      // case can end.
      raw = std::thread([] {
        run_async_root([]() -> awaitable<void> {
          auto call = sync_to_async([] {}, {.thread_sensitive = true, .name = "needs the lane"});
          co_await call();
        });
      });
      let_go.wait();
    };
    auto watcher = [&] {
      const wait_report stall = reports.first(wait_report::kind::stall);
      const std::string text = stall.to_string();
      CAPTURE(text);
      CHECK(has(text, "needs the lane"));
      CHECK(has(text, "holds the lane"));
      CHECK(has(text, "the thread of the thread-sensitive calls"));
      let_go.open();
      CHECK(reports.first(wait_report::kind::stall_over).number() == stall.number());
    };
    const auto executor = co_await asio::this_coro::executor;
    auto hold = [&]() -> awaitable<void> {
      auto call = sync_to_async(holder, {.thread_sensitive = true, .name = "holds the lane"});
      co_await call();
    };
    const child_task held(executor, hold);
    auto watch = sync_to_async(watcher);
    co_await watch();
    co_await held.join();
  });
  raw.join();
  CHECK(reports.count(wait_report::kind::deadlock) == 0);
}

TEST_CASE("loop_never_run: a call to a loop that nobody runs is reported as a stall") {
  wait_reports reports(on_deadlock::throw_error, std::chrono::milliseconds(300));
  asio::io_context loop(1);
  auto body = [] { return async_to_sync(answer)(); };
  auto call = sync_to_async(body);
  int result = 0;
  asio::co_spawn(loop, [&]() -> awaitable<void> { result = co_await call(); }, asio::detached);
  loop.run_one();  // awaits the callable, and then nobody runs the loop
  const wait_report stall = reports.first(wait_report::kind::stall);
  CHECK(has(stall.to_string(), "the loop it is to run on"));
  loop.run();
  CHECK(result == 42);
  CHECK(reports.first(wait_report::kind::stall_over).number() == stall.number());
}

TEST_CASE("dump_under_load: who waits can be asked at any time, and takes no lock of the user's") {
  std::atomic<bool> done{false};
  std::thread asking([&] {
    while (!done) {
      const wait_report now = current_waits();
      if (now.what() != wait_report::kind::snapshot || now.to_string(report_format::json).empty())
        std::abort();
    }
  });
  from_main([]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    auto some_calls = []() -> awaitable<void> {
      auto nested = [] { return async_to_sync(sensitive_answer)(); };
      auto call = sync_to_async(nested);
      for (int i = 0; i < 50; ++i) CHECK(co_await call() == 42);
    };
    std::deque<child_task> children;
    for (int i = 0; i < 4; ++i) children.emplace_back(executor, some_calls);
    for (const child_task& child : children) co_await child.join();
  });
  done = true;
  asking.join();
}

namespace {

/// A thread that is blocked in async_to_sync for a callable, "slow", until it is let go.
class slow_call {
public:
  slow_call() { running_.wait(); }
  ~slow_call() {
    let_go_.open();
    caller_.join();
  }
  long blocked_thread() const { return blocked_; }

private:
  void call() {
    blocked_ = kernel_thread_id();
    from_main([this]() -> awaitable<void> {
      auto body = [this] {
        running_.open();
        let_go_.wait();
      };
      auto call = sync_to_async(body, {.name = "slow"});
      co_await call();
    });
  }

  gate running_;
  gate let_go_;
  long blocked_ = 0;
  std::thread caller_{[this] { call(); }};
};

}  // namespace

TEST_CASE("a snapshot shows a blocked thread, the call it waits in, and what that waits for") {
  const slow_call call;
  CHECK(comes_true([&] { return has(current_waits().to_string(), "async_to_sync at "); }));
  CHECK(has(current_waits().to_string(), "sync_to_async \"slow\""));
}

TEST_CASE("on_deadlock::off: threads that begin to wait do not tell; on again, they do") {
  for (const bool off : {true, false}) {
    CAPTURE(off);
    const wait_reports reports(off ? on_deadlock::off : on_deadlock::throw_error);
    const slow_call call;
    CHECK(comes_true([&] { return thread_sleeps(call.blocked_thread()); }));
    if (off)
      CHECK_FALSE(has(current_waits().to_string(), "slow"));
    else
      CHECK(comes_true([&] { return has(current_waits().to_string(), "slow"); }));
  }
}

namespace {

/// A program whose answer is known: members that each hold one resource and, once all of them do,
/// need another one, or none. A resource is held by one member at most, so the members that wait
/// for each other form a graph in which everybody has one successor, and each of its cycles is one
/// deadlock. Resource 0 may be the process's lane.
class held_resources {
public:
  /// `pool`: with a worker for each member, because those wait for each other in ways that it
  /// cannot see.
  held_resources(std::mt19937& random, worker_pool& pool, bool with_lane)
      : pool_(pool),
        with_lane_(with_lane),
        members_(2 + random() % 4),
        all_hold_(static_cast<std::ptrdiff_t>(members_)) {
    const std::size_t resources = members_ + random() % 2;
    for (std::size_t i = 0; i < resources; ++i) limiters_.emplace_back(1U);
    for (std::size_t i = 0; i < members_; ++i)
      needs_.push_back(random() % 6 == 0
                           ? nothing
                           : (i + (random() % 6 != 0) + random() % (resources - 1)) % resources);
  }

  int cycles() const {
    int found = 0;
    for (std::size_t first = 0; first < members_; ++first) {
      std::size_t at = needs_[first];
      bool is_first = true;  // counted at its lowest member
      for (std::size_t steps = 0; waits_for_member(at) && at != first && steps < members_;
           ++steps) {
        is_first = is_first && at > first;
        at = needs_[at];
      }
      // Who needs what it holds itself waits for nobody: a chain counts once. The lane serves it
      // nested.
      if (at == first && is_first && needs_[first] != first) ++found;
    }
    return found;
  }

  /// Runs all members as coroutines of a loop of this thread's. How many ended with deadlock_error.
  int run() {
    std::atomic<int> refused{0};
    run_async_root([&]() -> awaitable<void> {
      const auto executor = co_await asio::this_coro::executor;
      std::deque<child_task> children;
      for (std::size_t i = 0; i < members_; ++i) {
        auto one = [&, i]() -> awaitable<void> {
          auto body = [&, i] { hold(i); };
          auto call = sync_to_async(body, options_of(i));
          try {
            co_await call();
          } catch (const deadlock_error&) {
            ++refused;
          }
        };
        children.emplace_back(executor, one);
      }
      for (const child_task& child : children) co_await child.join();
    });
    return refused;
  }

private:
  static constexpr std::size_t nothing = static_cast<std::size_t>(-1);

  bool waits_for_member(std::size_t needed) const { return needed < members_; }

  sync_options options_of(std::size_t resource) {
    if (with_lane_ && resource == 0) return thread_sensitive;
    return {.pool = &pool_, .limiter = &limiters_[resource]};
  }

  void hold(std::size_t index) {
    all_hold_.arrive_and_wait();
    if (needs_[index] == nothing) return;
    auto inner = [&]() -> awaitable<void> {
      auto need = sync_to_async([] {}, options_of(needs_[index]));
      co_await need();
    };
    async_to_sync(inner)();
  }

  worker_pool& pool_;
  const bool with_lane_;
  const std::size_t members_;
  std::deque<capacity_limiter> limiters_;
  std::vector<std::size_t>
      needs_;  // of each member: a resource; the member of that number holds it
  std::barrier<> all_hold_;
};

}  // namespace

TEST_CASE(
    "random programs with a known answer: every deadlock is reported, every other program "
    "completes") {
  wait_reports reports;
  constexpr unsigned at_once = 8;
  worker_pool pool({.soft_limit = 5 * at_once});
  const unsigned rounds = std::getenv("BOTHWORLDS_TEST_LONG") ? 500 : 5;
  int expected = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    std::deque<std::thread> threads;
    for (unsigned number = 0; number < at_once; ++number) {
      std::seed_seq seed{round, number};
      std::mt19937 random(seed);
      // One of them at a time uses the lane, which the process has only one of.
      auto program = std::make_shared<held_resources>(random, pool, number == 0);
      expected += program->cycles();
      threads.emplace_back([program, number, round] {
        const int refused = program->run();
        CAPTURE(round);
        CAPTURE(number);
        CHECK(refused == program->cycles());
      });
    }
    for (std::thread& one : threads) one.join();
  }
  CHECK(expected > 10);
  CHECK(reports.count(wait_report::kind::deadlock) == static_cast<std::size_t>(expected));
}

TEST_CASE(
    "portal_cycle: portals whose loops block in calls of one another, two and three of them, with "
    "a tail; and in calls that they have started and wait for") {
  const auto call = [](blocking_portal& portal) { portal.call([] {}); };
  const auto start_and_get = [](blocking_portal& portal) { portal.start([] {}).get(); };
  const std::function<void(blocking_portal&)> ways[] = {call, start_and_get};
  for (const auto& block_in : ways)
    for (const std::size_t size : {2U, 3U}) {
      CAPTURE(size);
      wait_reports reports;
      std::deque<blocking_portal> portals(size);
      std::barrier<> all_block(static_cast<std::ptrdiff_t>(size + 1));
      std::atomic<int> refused{0};
      std::deque<std::thread> callers;
      for (std::size_t i = 0; i < size; ++i)
        callers.emplace_back([&, i] {
          const auto on_its_loop = [&, i] {
            const blocking_region may_block;
            all_block.arrive_and_wait();
            block_in(portals[(i + 1) % size]);
          };
          try {
            portals[i].call(on_its_loop);
          } catch (const deadlock_error& e) {
            ++refused;
            CHECK(has(e.report(), "a loop of async_to_sync"));
          }
        });
      all_block.arrive_and_wait();
      // The tail: stands behind the cycle until it is broken.
      CHECK(portals[0].call([] { return 42; }) == 42);
      for (std::thread& caller : callers) caller.join();
      CHECK(refused == 1);
      CHECK(reports.count(wait_report::kind::deadlock) == 1);
    }
}

TEST_CASE("a callable that waits for a call in a portal which waits for the callable's limiter") {
  wait_reports reports;
  blocking_portal portal;
  capacity_limiter one(1);
  auto needs_the_token = sync_to_async([] {}, {.limiter = &one, .name = "needs the token"});
  auto holds_it = sync_to_async(
      [&] {
        portal_future<void> future = portal.start([&] { return needs_the_token(); });
        CHECK_THROWS_AS(future.get(), deadlock_error);
        return 42;
      },
      {.limiter = &one, .name = "holds it"});
  CHECK(async_to_sync(std::ref(holds_it))() == 42);
  CHECK(reports.count(wait_report::kind::deadlock) == 1);
}
