// SPDX-License-Identifier: BSL-1.0

#include "support/call_tools.hpp"
#include "support/captured_stderr.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_portal.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using namespace std::chrono_literals;
using bothworlds::async_to_sync;
using bothworlds::blocking_portal;
using bothworlds::errc;
using bothworlds::error;
using bothworlds::misuse_error;
using bothworlds::stop_policy;
using bothworlds::sync_to_async;

namespace {

awaitable<long> id_after_yield() {
  co_await yield_to_loop();
  co_return kernel_thread_id();
}

/// Waits until it is cancelled; opens `waiting` before, and `unwound` when it has been.
awaitable<int> wait_until_cancelled(gate& waiting, gate& unwound) {
  struct on_exit {
    gate& flag;
    ~on_exit() { flag.open(); }
  };
  const on_exit guard{unwound};
  waiting.open();
  co_await wait_for_ever();
  co_return 1;
}

template <class F>
boost::system::error_code code_of(F f) {
  try {
    f();
  } catch (const boost::system::system_error& e) {
    return e.code();
  }
  return {};
}

const boost::system::error_code aborted = asio::error::operation_aborted;

}  // namespace

TEST_CASE(
    "loop_never_run: a portal's loop turns before its constructor returns, for async and blocking "
    "callables") {
  blocking_portal portal;
  const long loop_id = portal.call(kernel_thread_id);
  CHECK(loop_id != kernel_thread_id());
  CHECK(portal.call(id_after_yield) == loop_id);
  CHECK(portal.call([] { return std::make_unique<int>(3); }) != nullptr);
  portal.call([] {});
  int counter = 0;
  CHECK(&portal.call([&]() -> int& { return ++counter; }).get() == &counter);
  CHECK_THROWS_WITH_AS(portal.call([]() -> awaitable<int> {
    co_await yield_to_loop();
    throw std::runtime_error("as it was thrown");
  }),
                       "as it was thrown", std::runtime_error);
  CHECK_THROWS_AS(portal.call([] { throw 7; }), int);
}

TEST_CASE(
    "many threads call one portal at once, and all their coroutines are on its loop together") {
  blocking_portal portal;
  constexpr int count = 8;
  std::optional<loop_barrier> all_here;
  portal.call(
      [&]() -> awaitable<void> { all_here.emplace(co_await asio::this_coro::executor, count); });
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      const auto meet = [&, i]() -> awaitable<int> {
        co_await all_here->arrive_and_wait();
        co_return i;
      };
      CHECK(portal.call(meet) == i);
    });
  for (std::thread& thread : threads) thread.join();
  portal.call([&] { all_here.reset(); });
}

TEST_CASE("a started call gives a future that can be waited for, got once, and cancelled") {
  blocking_portal portal;
  gate go_on;
  auto number = portal.start([&]() -> awaitable<int> {
    auto wait = sync_to_async([&] { go_on.wait(); });
    co_await wait();
    co_return 5;
  });
  CHECK_FALSE(number.done());
  CHECK_FALSE(number.wait_for(1ms));
  go_on.open();
  CHECK(number.wait_for(1min));
  CHECK(number.done());
  CHECK(number.get() == 5);
  CHECK_THROWS_AS(number.get(), misuse_error);

  gate waiting;
  gate unwound;
  auto cancelled = portal.start([&] { return wait_until_cancelled(waiting, unwound); });
  waiting.wait();
  cancelled.cancel();
  CHECK(code_of([&] { cancelled.get(); }) == aborted);
  CHECK(unwound.is_open());

  auto failed = portal.start([]() -> int { throw std::runtime_error("kept for get"); });
  CHECK_THROWS_WITH_AS(failed.get(), "kept for get", std::runtime_error);
}

TEST_CASE(
    "a coroutine starts calls, but is refused to block in a portal, its own or another, before "
    "anything runs") {
  blocking_portal portal;
  blocking_portal other;
  bool ran = false;
  const auto refused = [&]() -> awaitable<void> {
    CHECK_THROWS_AS(portal.call([&] { ran = true; }), misuse_error);
    CHECK_THROWS_AS(other.call([&] { ran = true; }), misuse_error);
    CHECK(code_of([&] { portal.stop(); }) == errc::running_loop);
    auto started = portal.start([] { return 3; });
    CHECK(code_of([&] { started.get(); }) == errc::running_loop);
    while (!started.done()) co_await yield_to_loop();
    CHECK(started.get() == 3);
  };
  portal.call(refused);
  CHECK_FALSE(ran);
}

TEST_CASE(
    "call_after_shutdown: a stopped portal fails every call with loop_stopped, and may be stopped "
    "again") {
  blocking_portal portal;
  portal.stop();
  portal.stop(stop_policy::wait);
  bool ran = false;
  CHECK(code_of([&] { portal.call([&] { ran = true; }); }) == errc::loop_stopped);
  CHECK(code_of([&] { portal.start([&] { ran = true; }).get(); }) == errc::loop_stopped);
  CHECK_FALSE(ran);
}

TEST_CASE(
    "stop cancels what runs: blocked callers and futures end with loop_stopped, after their "
    "coroutines") {
  blocking_portal portal;
  gate waiting[2];
  gate unwound[2];
  auto future = portal.start([&] { return wait_until_cancelled(waiting[0], unwound[0]); });
  std::thread caller([&] {
    const auto wait = [&] { return wait_until_cancelled(waiting[1], unwound[1]); };
    CHECK(code_of([&] { portal.call(wait); }) == errc::loop_stopped);
    CHECK(unwound[1].is_open());
  });
  waiting[0].wait();
  waiting[1].wait();
  portal.stop(stop_policy::cancel);
  CHECK(unwound[0].is_open());
  CHECK(code_of([&] { future.get(); }) == errc::loop_stopped);
  caller.join();
}

TEST_CASE(
    "stop with wait takes no more calls and lets those that run end; a stop with cancel hurries "
    "it") {
  for (const bool hurried : {false, true}) {
    CAPTURE(hurried);
    blocking_portal portal;
    gate running;
    gate unwound;
    gate go_on;
    auto future = portal.start([&]() -> awaitable<int> {
      if (hurried) co_return co_await wait_until_cancelled(running, unwound);
      auto wait = sync_to_async([&] {
        running.open();
        go_on.wait();
      });
      co_await wait();
      co_return 4;
    });
    running.wait();
    std::thread stopper([&] { portal.stop(stop_policy::wait); });
    CHECK(comes_true([&] { return code_of([&] { portal.call([] {}); }) == errc::loop_stopped; }));
    CHECK_FALSE(future.done());
    if (hurried) {
      portal.stop(stop_policy::cancel);
      CHECK(code_of([&] { future.get(); }) == errc::loop_stopped);
    } else {
      go_on.open();
      CHECK(future.get() == 4);
    }
    stopper.join();
  }
}

TEST_CASE(
    "what does not obey is destroyed with the loop when patience is over, and its caller is not "
    "left") {
  blocking_portal portal({.patience = 5ms});
  gate waiting;
  const auto frame_owns = std::make_shared<int>();
  std::thread caller([&] {
    const auto stubborn = [&waiting, frame_owns]() -> awaitable<void> {
      const auto kept = frame_owns;
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      waiting.open();
      co_await wait_for_ever();
    };
    CHECK(code_of([&] { portal.call(stubborn); }) == errc::loop_stopped);
  });
  waiting.wait();
  portal.stop();
  caller.join();
  CHECK(frame_owns.use_count() == 1);
}

TEST_CASE("a portal that goes from its own loop does not wait for itself") {
  auto portal = std::make_shared<blocking_portal>();
  gate gone;
  auto future = portal->start(
      [&gone, last = std::weak_ptr(portal), own = portal]() mutable -> awaitable<void> {
        auto held = std::move(own);
        while (last.use_count() > 1) co_await yield_to_loop();
        held.reset();
        gone.open();
      });
  portal.reset();
  gone.wait();
  CHECK_NOTHROW(future.wait_for(1min));
}

TEST_CASE("the shared portal is one while somebody holds it, and stops when the last lets go") {
  auto one = blocking_portal::shared();
  auto two = blocking_portal::shared();
  CHECK(one == two);
  const long id = one->call(kernel_thread_id);
  one.reset();
  CHECK(two->call(kernel_thread_id) == id);
  const auto frame_owns = std::make_shared<int>();
  const auto left_behind = [frame_owns]() -> awaitable<void> {
    const auto kept = frame_owns;
    co_await wait_for_ever();
  };
  two->call([&]() -> awaitable<void> {
    asio::co_spawn(co_await asio::this_coro::executor, left_behind, asio::detached);
  });
  CHECK(frame_owns.use_count() > 2);
  two.reset();
  CHECK(frame_owns.use_count() == 2);
  CHECK(blocking_portal::shared()->call([] { return 1; }) == 1);
}

TEST_CASE("two_loops_one_process: portals call one another through sync code, to any depth") {
  blocking_portal first;
  blocking_portal second;
  const std::function<int(int)> descend = [&](int depth) -> int {
    if (depth == 0) return 0;
    blocking_portal& next = depth % 2 ? first : second;
    return next.call([&descend, depth]() -> awaitable<int> {
      auto below = sync_to_async(descend);
      co_return 1 + co_await below(depth - 1);
    });
  };
  CHECK(descend(20) == 20);
}

TEST_CASE(
    "pump_every_frame: thread-sensitive calls under a portal's call run on the thread that is "
    "blocked in it") {
  blocking_portal portal;
  std::thread([&] {
    const long self = kernel_thread_id();
    CHECK(portal.call(sensitive_thread) == self);
    const auto nested = [&]() -> awaitable<long> {
      auto again = sync_to_async([&] { return portal.call(sensitive_thread); });
      co_return co_await again();
    };
    CHECK(portal.call(nested) == self);
  }).join();
}

TEST_CASE(
    "a call in a portal has a timeout and a stop token, and is cancelled with the callable it is "
    "made in") {
  blocking_portal portal;
  gate waiting[3];
  gate unwound[3];
  const auto timed = [&] { return wait_until_cancelled(waiting[0], unwound[0]); };
  // One that was not begun in time never is. Where the portal's thread gets no CPU for that long, it
  // takes more time to begin.
  for (auto timeout = 1ms; !waiting[0].is_open(); timeout *= 2) {
    CHECK(code_of([&] { portal.call(timed, {.timeout = timeout}); }) == errc::timed_out);
    CHECK(unwound[0].is_open() == waiting[0].is_open());
  }

  std::stop_source stop;
  std::thread stopper([&] {
    waiting[1].wait();
    stop.request_stop();
  });
  const auto stopped = [&] { return wait_until_cancelled(waiting[1], unwound[1]); };
  CHECK(code_of([&] { portal.call(stopped, {.stop = stop.get_token()}); }) == aborted);
  stopper.join();

  run_async_root([&]() -> awaitable<void> {
    auto callable = sync_to_async(
        [&] { portal.call([&] { return wait_until_cancelled(waiting[2], unwound[2]); }); });
    const auto call = [&]() -> awaitable<void> { co_await callable(); };
    const child_task task(co_await asio::this_coro::executor, call);
    const bool runs = co_await comes_true_on_loop([&] { return waiting[2].is_open(); });
    CHECK(runs);
    task.cancel();
    const bool cancelled = co_await ends_cancelled(task);
    CHECK(cancelled);
    CHECK(unwound[2].is_open());
  });
}

TEST_CASE("a callable that waits for a future cancels the call when it is cancelled itself") {
  blocking_portal portal;
  gate waiting;
  gate unwound;
  run_async_root([&]() -> awaitable<void> {
    auto callable = sync_to_async(
        [&] { portal.start([&] { return wait_until_cancelled(waiting, unwound); }).get(); });
    const auto call = [&]() -> awaitable<void> { co_await callable(); };
    const child_task task(co_await asio::this_coro::executor, call);
    const bool runs = co_await comes_true_on_loop([&] { return waiting.is_open(); });
    CHECK(runs);
    task.cancel();
    const bool cancelled = co_await ends_cancelled(task);
    CHECK(cancelled);
  });
  CHECK(unwound.is_open());
}

TEST_CASE("a callable that a portal's coroutine awaits may not stop that portal") {
  blocking_portal portal;
  const auto code = portal.call([&]() -> awaitable<boost::system::error_code> {
    auto stop = sync_to_async([&] { return code_of([&] { portal.stop(stop_policy::wait); }); });
    co_return co_await stop();
  });
  CHECK(code == errc::would_deadlock);
}

TEST_CASE(
    "never_retrieved: the error of a call whose future was dropped is reported with its place; a "
    "cancellation is not") {
  const captured_stderr captured;
  {
    blocking_portal portal;
    gate go_on;
    const unsigned line = __LINE__ + 1;
    (void)portal.start([&] {
      go_on.wait();
      throw std::runtime_error("nobody asked");
    });
    go_on.open();
    const std::string place = "blocking_portal_test.cpp:" + std::to_string(line);
    CHECK(comes_true([&] { return captured.text().find("nobody asked") != std::string::npos; }));
    CHECK(captured.text().find(place) != std::string::npos);
    {
      auto ended = portal.start([] { throw std::runtime_error("nobody came"); });
      ended.wait_for(1min);
    }
    CHECK(captured.text().find("nobody came") != std::string::npos);
    (void)portal.start(wait_for_ever);
  }
  CHECK(captured.text().find("abort") == std::string::npos);
}

TEST_CASE(
    "values go into a portal's call and come back; a started call inherits them and keeps its "
    "own") {
  const bothworlds::context_var<int> value("value", 1);
  blocking_portal portal;
  std::thread([&] {
    value.set(2);
    portal.call([&]() -> awaitable<void> {
      CHECK(value.get() == 2);
      value.set(3);
      co_return;
    });
    CHECK(value.get() == 3);
    const int seen = portal
                         .start([&]() -> awaitable<int> {
                           const int inherited = value.get();
                           value.set(4);
                           co_return inherited;
                         })
                         .get();
    CHECK(seen == 3);
    CHECK(value.get() == 3);
  }).join();
}

// ThreadSanitizer does not support a child that starts threads.
TEST_CASE(
    "a forked child gets forked_child from its parent's portal, and a shared portal of its "
    "own" SKIPPED_UNDER_TSAN) {
  blocking_portal portal;
  const auto shared = blocking_portal::shared();
  CHECK(exit_code_of_child([&] {
          if (code_of([&] { portal.call([] {}); }) != errc::forked_child) return 1;
          return blocking_portal::shared()->call([] { return 42; });
        }) == 42);
  CHECK(portal.call([] { return 1; }) == 1);
}
