// SPDX-License-Identifier: BSL-1.0
//
// Coroutines side by side: tasks, groups, gather, timeouts, spawn.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/run.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task_group.hpp>
#include <bothworlds/thread_sensitive.hpp>

#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <variant>
#include <vector>

using namespace bothworlds::testing;
using namespace std::chrono_literals;
using bothworlds::async_to_sync;
using bothworlds::context_var;
using bothworlds::create_task;
using bothworlds::errc;
using bothworlds::errors_of;
using bothworlds::gather;
using bothworlds::sleep_for;
using bothworlds::sync_to_async;
using bothworlds::task;
using bothworlds::task_group;
using bothworlds::with_task_group;
using bothworlds::with_timeout;

namespace {

const context_var<int> number("number", 7);

awaitable<int> later(int value) {
  co_await yield_to_loop();
  co_return value;
}

awaitable<int> failing(std::string why) {
  co_await yield_to_loop();
  throw std::runtime_error(why);
}

/// Counts those that have unwound because they were cancelled.
awaitable<void> until_cancelled(int& unwound) {
  try {
    co_await wait_for_ever();
  } catch (const boost::system::system_error& e) {
    if (is_cancellation(e)) ++unwound;
    throw;
  }
}

std::vector<std::string> messages(const std::vector<std::exception_ptr>& errors) {
  std::vector<std::string> all;
  for (const std::exception_ptr& each : errors) {
    try {
      std::rethrow_exception(each);
    } catch (const std::exception& e) {
      all.push_back(e.what());
    }
  }
  return all;
}

/// What the first error and all errors say, of a call that must throw.
template <class F>
std::vector<std::string> errors_thrown_by(F f) {
  try {
    f();
  } catch (...) {
    return messages(errors_of(std::current_exception()));
  }
  return {};
}

template <class F>
boost::system::error_code code_thrown_by(F f) {
  try {
    f();
  } catch (const boost::system::system_error& e) {
    return e.code();
  }
  return {};
}

/// Where the library's coroutines may run: below a blocked thread, and on somebody else's loop.
template <class F>
void on_both_loops(F body) {
  SUBCASE("on a loop of ours") { async_to_sync(body)(); }
  SUBCASE("on somebody else's loop") { run_async_root(body); }
}

}  // namespace

TEST_CASE("gather runs its members at the same time and gives their results in order") {
  on_both_loops([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_barrier all_here(executor, 3);
    auto member = [&](int value) -> awaitable<std::unique_ptr<int>> {
      co_await all_here.arrive_and_wait();
      co_return std::make_unique<int>(value);
    };
    auto nothing = [&]() -> awaitable<void> { co_await all_here.arrive_and_wait(); };
    std::tuple<std::unique_ptr<int>, std::monostate, std::unique_ptr<int>> got =
        co_await gather(member(1), std::ref(nothing), member(3));
    CHECK(*std::get<0>(got) == 1);
    CHECK(*std::get<2>(got) == 3);
  });
}

TEST_CASE("gather of a vector gives a vector, and nothing for void") {
  on_both_loops([]() -> awaitable<void> {
    std::vector<awaitable<int>> numbers;
    for (int i = 0; i < 100; ++i) numbers.push_back(later(i));
    const std::vector<int> got = co_await gather(std::move(numbers));
    REQUIRE(got.size() == 100);
    for (int i = 0; i < 100; ++i) CHECK(got[static_cast<std::size_t>(i)] == i);
    std::vector<awaitable<void>> voids;
    voids.push_back(yield_to_loop());
    voids.push_back(yield_to_loop());
    co_await gather(std::move(voids));
    const std::vector<int> none = co_await gather(std::vector<awaitable<int>>());
    CHECK(none.empty());
  });
}

TEST_CASE("gather takes blocking callables by way of sync_to_async, and functions") {
  async_to_sync([]() -> awaitable<void> {
    const long loop_thread = kernel_thread_id();
    auto blocking = sync_to_async(kernel_thread_id);
    auto function = []() -> awaitable<int> { return later(2); };
    std::tuple<pid_t, pid_t, int> got = co_await gather(blocking, blocking(), function);
    CHECK(std::get<0>(got) != loop_thread);
    CHECK(std::get<1>(got) != loop_thread);
    CHECK(std::get<2>(got) == 2);
  })();
}

TEST_CASE("gather throws the first error after the others were cancelled and have unwound") {
  int unwound = 0;
  const auto all = errors_thrown_by([&] {
    async_to_sync([&]() -> awaitable<void> {
      co_await gather(until_cancelled(unwound), failing("first"), until_cancelled(unwound));
    })();
  });
  CHECK(all == std::vector<std::string>{"first"});
  CHECK(unwound == 2);
}

TEST_CASE(
    "every error is kept: the first is thrown as it is, the others are reached by errors_of") {
  auto fails_when_cancelled = [](std::string why) -> awaitable<void> {
    try {
      co_await wait_for_ever();
    } catch (const boost::system::system_error&) {
      throw std::logic_error(why);
    }
  };
  const std::vector<std::string> expected{"first", "second", "third"};
  auto all_fail = [&]() -> awaitable<void> {
    co_await gather(fails_when_cancelled("second"), failing("first"),
                    fails_when_cancelled("third"));
  };
  CHECK(errors_thrown_by([&] { async_to_sync(std::ref(all_fail))(); }) == expected);
  // Across a worker, and back.
  auto on_a_worker = sync_to_async([&] { async_to_sync(std::ref(all_fail))(); });
  CHECK(errors_thrown_by([&] {
          async_to_sync([&]() -> awaitable<void> { co_await on_a_worker(); })();
        }) == expected);
  CHECK(errors_thrown_by([] { throw std::runtime_error("alone"); }) ==
        std::vector<std::string>{"alone"});
  CHECK(errors_of(nullptr).empty());
}

TEST_CASE("a group is not left before its tasks have ended, and gives the result of its body") {
  on_both_loops([]() -> awaitable<void> {
    int ended = 0;
    auto child = [&]() -> awaitable<void> {
      co_await yield_to_loop();
      co_await yield_to_loop();
      ++ended;
    };
    auto grandparent = [&](task_group& group) -> awaitable<void> {
      co_await yield_to_loop();
      group.spawn(std::ref(child));
    };
    auto body = [&](task_group& group) -> awaitable<std::string> {
      group.spawn(std::ref(child));
      group.spawn(grandparent(group));
      co_return "body";
    };
    const std::string got = co_await with_task_group(body);
    CHECK(got == "body");
    CHECK(ended == 2);
  });
}

TEST_CASE("the first error of a group cancels its body and its tasks") {
  for (const bool body_fails : {false, true}) {
    int unwound = 0;
    auto body = [&](task_group& group) -> awaitable<void> {
      group.spawn(until_cancelled(unwound));
      if (body_fails) co_await failing("body");
      group.spawn(failing("task"));
      co_await until_cancelled(unwound);
    };
    const auto all = errors_thrown_by([&] {
      async_to_sync([&]() -> awaitable<void> { co_await with_task_group(std::ref(body)); })();
    });
    CHECK(all == std::vector<std::string>{body_fails ? "body" : "task"});
    CHECK(unwound == (body_fails ? 1 : 2));
  }
}

TEST_CASE(
    "a cancelled group is left without an error, and a task spawned after that is cancelled, too") {
  int unwound = 0;
  async_to_sync([&]() -> awaitable<void> {
    auto body = [&](task_group& group) -> awaitable<void> {
      group.spawn(until_cancelled(unwound));
      co_await yield_to_loop();
      group.cancel();
      group.spawn(until_cancelled(unwound));
      co_await until_cancelled(unwound);
    };
    co_await with_task_group(std::ref(body));
  })();
  CHECK(unwound == 2);
}

TEST_CASE("cancelling what awaits a group reaches the body and the tasks, and is not swallowed") {
  int unwound = 0;
  bool aborted = false;
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event inside(executor);
    auto body = [&](task_group& group) -> awaitable<void> {
      group.spawn(until_cancelled(unwound));
      inside.set();
      co_await until_cancelled(unwound);
    };
    child_task outer(executor, [&] { return with_task_group(std::ref(body)); });
    co_await inside.wait();
    co_await yield_to_loop();
    outer.cancel();
    aborted = co_await ends_cancelled(outer);
  })();
  CHECK(aborted);
  CHECK(unwound >= 1);
}

TEST_CASE("a task is joined by several, cancelled and asked whether it is done") {
  on_both_loops([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event go(executor);
    auto wait = [&]() -> awaitable<std::string> {
      co_await go.wait();
      co_return "went";
    };
    auto body = [&](task_group& group) -> awaitable<void> {
      task<std::string> waits = group.spawn(std::ref(wait));
      task<void> cancelled = group.spawn(wait_for_ever());
      auto join = [&]() -> awaitable<std::string> { co_return co_await waits.join(); };
      task<std::string> first = group.spawn(std::ref(join)), second = group.spawn(std::ref(join));
      co_await yield_to_loop();
      CHECK(!waits.done());
      go.set();
      const std::string a = co_await first.join(), b = co_await second.join(),
                        c = co_await waits.join();
      CHECK(a + b + c == "wentwentwent");
      CHECK(waits.done());
      cancelled.cancel();
      bool aborted = false;
      try {
        co_await cancelled.join();
      } catch (const boost::system::system_error& e) {
        aborted = is_cancellation(e);
      }
      CHECK(aborted);
    };
    co_await with_task_group(std::ref(body));
  });
}

TEST_CASE("a task is joined from another loop, and a cancelled join leaves the task alone") {
  loop_thread other;
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event go(executor);
    auto wait = [&]() -> awaitable<int> {
      co_await go.wait();
      co_return 42;
    };
    auto body = [&](task_group& group) -> awaitable<void> {
      task<int> waits = group.spawn(std::ref(wait));
      auto join = [waits]() -> awaitable<int> { co_return co_await waits.join(); };
      child_task impatient(executor, [&]() -> awaitable<void> { co_await join(); });
      co_await yield_to_loop();
      impatient.cancel();
      const bool aborted = co_await ends_cancelled(impatient);
      CHECK(aborted);
      std::future<int> elsewhere = asio::co_spawn(other.context(), join, asio::use_future);
      co_await yield_to_loop();
      go.set();
      auto get = sync_to_async([&] { return elsewhere.get(); });
      const int got = co_await get();
      CHECK(got == 42);
    };
    co_await with_task_group(std::ref(body));
  })();
}

TEST_CASE("a result that cannot be copied goes to the first who joins") {
  boost::system::error_code second;
  async_to_sync([&]() -> awaitable<void> {
    auto make = []() -> awaitable<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
    task<std::unique_ptr<int>> made = co_await create_task(make);
    std::unique_ptr<int> got = co_await made.join();
    CHECK(*got == 5);
    try {
      co_await made.join();
    } catch (const bothworlds::misuse_error& e) {
      second = e.code();
    }
  })();
  CHECK(second == errc::invalid_options);
}

TEST_CASE("create_task makes a child of the call, which does not end before it") {
  int ended = 0, seen = 0;
  auto child = [&]() -> awaitable<void> {
    co_await yield_to_loop();
    co_await yield_to_loop();
    ++ended;
  };
  auto nested = [&]() -> awaitable<void> { co_await create_task(std::ref(child)); };
  auto in_time = [&]() -> awaitable<void> { co_await create_task(std::ref(child)); };
  auto parent = [&]() -> awaitable<void> {
    co_await create_task(std::ref(child));
    co_await create_task(std::ref(nested));
    co_await with_timeout(1h, std::ref(in_time));
  };
  for (int round = 0; round < 3; ++round) async_to_sync(std::ref(parent))();
  CHECK(ended == 9);
  bothworlds::run(parent);
  CHECK(ended == 12);
  auto on_a_worker = sync_to_async([&] {
    async_to_sync(std::ref(parent))();
    seen = ended;
  });
  run_async_root([&]() -> awaitable<void> { co_await on_a_worker(); });
  CHECK(seen == 15);
}

TEST_CASE("create_task is a child of the innermost group") {
  const auto all = errors_thrown_by([] {
    async_to_sync([]() -> awaitable<void> {
      auto body = [](task_group&) -> awaitable<void> {
        co_await create_task(failing("of the group"));
        co_await wait_for_ever();
      };
      co_await with_task_group(body);
    })();
  });
  CHECK(all == std::vector<std::string>{"of the group"});
}

TEST_CASE("create_task where nothing waits for tasks is refused with no_context") {
  std::optional<boost::system::error_code> bare;
  run_async_root([&]() -> awaitable<void> {
    auto make = []() -> awaitable<void> { co_await create_task(yield_to_loop()); };
    bare = co_await outcome(make);
  });
  CHECK(bare == errc::no_context);
}

TEST_CASE(
    "a call that fails cancels its tasks before it ends; an error of a task is for who joins it") {
  int unwound = 0;
  CHECK(errors_thrown_by([&] {
          async_to_sync([&]() -> awaitable<void> {
            co_await create_task(until_cancelled(unwound));
            co_await yield_to_loop();
            throw std::runtime_error("main");
          })();
        }) == std::vector<std::string>{"main"});
  CHECK(unwound == 1);
  async_to_sync([&]() -> awaitable<void> {
    task<int> fails = co_await create_task(failing("joined"));
    std::string what;
    try {
      co_await fails.join();
    } catch (const std::runtime_error& e) {
      what = e.what();
    }
    CHECK(what == "joined");
  })();
}

TEST_CASE("the timeout of a call reaches the tasks that it waits for") {
  int unwound = 0;
  CHECK(code_thrown_by([&] {
          async_to_sync(
              [&]() -> awaitable<void> {
                co_await create_task(until_cancelled(unwound));
                co_await wait_for_ever();
              },
              {.timeout = 20ms})();
        }) == errc::timed_out);
  CHECK(unwound == 1);
}

TEST_CASE(
    "with_timeout gives the result in time, and throws timed_out after the work has unwound") {
  int unwound = 0;
  on_both_loops([&]() -> awaitable<void> {
    const int got = co_await with_timeout(1h, later(3));
    CHECK(got == 3);
    auto late = [&]() -> awaitable<void> { co_await with_timeout(10ms, until_cancelled(unwound)); };
    const boost::system::error_code code = co_await outcome(late);
    CHECK(code == errc::timed_out);
    CHECK(unwound == 1);
    auto fails = [&]() -> awaitable<void> { co_await with_timeout(1h, failing("own")); };
    std::string what;
    try {
      co_await fails();
    } catch (const std::runtime_error& e) {
      what = e.what();
    }
    CHECK(what == "own");
    co_await with_timeout(std::chrono::steady_clock::duration::max(), yield_to_loop());
  });
}

TEST_CASE("sleep_for sleeps, not at all for nothing, and is cancelled") {
  on_both_loops([]() -> awaitable<void> {
    const auto before = std::chrono::steady_clock::now();
    co_await sleep_for(20ms);
    CHECK(std::chrono::steady_clock::now() - before >= 20ms);
    co_await sleep_for(0s);
    co_await sleep_for(-1s);
    auto long_sleep = []() -> awaitable<void> { co_await with_timeout(10ms, sleep_for(1h)); };
    const boost::system::error_code code = co_await outcome(long_sleep);
    CHECK(code == errc::timed_out);
    auto for_ever = []() -> awaitable<void> {
      co_await with_timeout(10ms, sleep_for(std::chrono::steady_clock::duration::max()));
    };
    const boost::system::error_code second = co_await outcome(for_ever);
    CHECK(second == errc::timed_out);
  });
}

TEST_CASE(
    "children begin with their parent's values and leak nothing; what is awaited directly changes "
    "them") {
  const context_var<int>::scope here(number, 1);
  async_to_sync([&]() -> awaitable<void> {
    auto add = [](int more) -> awaitable<int> {
      number.set(number.get() + more);
      co_await yield_to_loop();
      co_return number.get();
    };
    std::tuple<int, int> got = co_await gather(add(10), add(20));
    CHECK(std::get<0>(got) == 11);
    CHECK(std::get<1>(got) == 21);
    CHECK(number.get() == 1);
    task<int> made = co_await create_task(add(30));
    const int of_task = co_await made.join();
    CHECK(of_task == 31);
    CHECK(number.get() == 1);
    const int in_time = co_await with_timeout(1h, add(1));
    CHECK(in_time == 2);
    CHECK(number.get() == 2);
    auto body = [&](task_group& group) -> awaitable<void> {
      task<int> child = group.spawn(add(40));
      const int of_child = co_await child.join();
      CHECK(of_child == 42);
      number.set(3);
    };
    co_await with_task_group(std::ref(body));
    CHECK(number.get() == 3);
  })();
  CHECK(number.get() == 3);
}

TEST_CASE(
    "values follow into groups under a bare co_spawn, and spawn carries them to any executor") {
  const context_var<int>::scope here(number, 1);
  loop_thread other;
  auto change = []() -> awaitable<int> {
    co_await yield_to_loop();
    number.set(number.get() + 10);
    auto read = sync_to_async([] { return number.get(); });
    co_return co_await read();
  };
  CHECK(bothworlds::spawn(other.context(), change(), asio::use_future).get() == 11);
  CHECK(number.get() == 1);
  asio::thread_pool threads(2);
  CHECK(bothworlds::spawn(threads.get_executor(), change, asio::use_future).get() == 11);
  auto fails = bothworlds::spawn(other.executor(), failing("spawned"), asio::use_future);
  CHECK(errors_thrown_by([&] { fails.get(); }) == std::vector<std::string>{"spawned"});
  run_async_root([&]() -> awaitable<void> {
    std::tuple<int, int> got = co_await gather(change(), change());
    CHECK(got == std::tuple(17, 17));
    CHECK(number.get() == 7);
  });
}

TEST_CASE("thread-sensitive calls of tasks run on the chain's own thread") {
  const long root = kernel_thread_id();
  async_to_sync([&]() -> awaitable<void> {
    std::tuple<long, long> got = co_await gather(sensitive_thread(), sensitive_thread());
    CHECK(got == std::tuple(root, root));
  })();
}

TEST_CASE("a thousand members at once, again and again; nothing is left of them") {
  struct counted {
    explicit counted(std::atomic<int>& living) : living_(&living) { ++living; }
    counted(const counted& other) : living_(other.living_) { ++*living_; }
    counted& operator=(const counted&) = delete;
    ~counted() { --*living_; }
    std::atomic<int>* living_;
  };
  std::atomic<int> living{0};
  async_to_sync([&]() -> awaitable<void> {
    for (int round = 0; round < 3; ++round) {
      std::vector<awaitable<counted>> members;
      auto make = [](std::atomic<int>& count) -> awaitable<counted> {
        co_await yield_to_loop();
        co_return counted(count);
      };
      for (int i = 0; i < 1000; ++i) members.push_back(make(living));
      {
        std::vector<counted> got = co_await gather(std::move(members));
        CHECK(got.size() == 1000);
        CHECK(living == 1000);
      }
      CHECK(living == 0);
    }
  })();
}

TEST_CASE("tasks may be spawned into a group from several threads") {
  std::atomic<int> ran{0};
  async_to_sync([&]() -> awaitable<void> {
    auto count = [&]() -> awaitable<void> {
      ++ran;
      co_return;
    };
    auto body = [&](task_group& group) -> awaitable<void> {
      auto spawn_some = sync_to_async([&] {
        for (int i = 0; i < 50; ++i) group.spawn(std::ref(count));
      });
      co_await gather(spawn_some(), spawn_some());
    };
    co_await with_task_group(std::ref(body));
  })();
  CHECK(ran == 100);
}
