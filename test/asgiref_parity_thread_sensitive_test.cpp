// SPDX-License-Identifier: BSL-1.0
//
// What asgiref's own tests pin of thread-sensitive calls: which thread runs them, from whatever
// depth.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <doctest/doctest.h>

#include <latch>
#include <optional>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using namespace boost::asio::experimental::awaitable_operators;
using bothworlds::async_to_sync;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::with_thread_sensitive_context;

namespace {

awaitable<void> store_sensitive_thread(long& id) { id = co_await sensitive_thread(); }

}  // namespace

TEST_CASE(
    "test_thread_sensitive_outside_sync: under a sync root it is the root's thread, in children "
    "too") {
  const long root = kernel_thread_id();
  long direct = 0, in_child = 0;
  async_to_sync([&]() -> awaitable<void> {
    direct = co_await sensitive_thread();
    auto executor = co_await asio::this_coro::executor;
    child_task child(executor, [&] { return store_sensitive_thread(in_child); });
    co_await child.join();
  })();
  CHECK(direct == root);
  CHECK(in_child == root);
}

TEST_CASE(
    "test_thread_sensitive_outside_async: under an async root it is one other thread for all") {
  long nested = 0, direct = 0;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto outer = sync_to_async([&] { async_to_sync(store_sensitive_thread)(std::ref(nested)); },
                               thread_sensitive);
    child_task first(executor, [&] { return outer(); });
    child_task second(executor, [&] { return store_sensitive_thread(direct); });
    co_await first.join();
    co_await second.join();
  });
  CHECK(nested != 0);
  CHECK(nested != kernel_thread_id());
  CHECK(nested == direct);
}

TEST_CASE(
    "test_thread_sensitive_outside_async: it is the same thread for every loop of the process") {
  long ids[2] = {};
  for (long& id : ids)
    std::thread([&] { run_async_root([&] { return store_sensitive_thread(id); }); }).join();
  CHECK(ids[0] != 0);
  CHECK(ids[0] == ids[1]);
}

TEST_CASE(
    "test_thread_sensitive_with_context_matches: two children of one context share its thread") {
  long ids[2] = {};
  run_async_root([&]() -> awaitable<void> {
    auto body = [&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      child_task first(executor, [&] { return store_sensitive_thread(ids[0]); });
      child_task second(executor, [&] { return store_sensitive_thread(ids[1]); });
      co_await first.join();
      co_await second.join();
    };
    co_await with_thread_sensitive_context(body);
  });
  CHECK(ids[0] != 0);
  CHECK(ids[0] != kernel_thread_id());
  CHECK(ids[0] == ids[1]);
}

TEST_CASE("test_thread_sensitive_nested_context: a context inside a context is the outer one") {
  long outer = 0, inner = 0, outer_again = 0;
  run_async_root([&]() -> awaitable<void> {
    auto inner_body = [&]() -> awaitable<void> { inner = co_await sensitive_thread(); };
    auto outer_body = [&]() -> awaitable<void> {
      outer = co_await sensitive_thread();
      co_await with_thread_sensitive_context(inner_body);
      outer_again = co_await sensitive_thread();
    };
    co_await with_thread_sensitive_context(outer_body);
  });
  CHECK(outer != 0);
  CHECK(outer != kernel_thread_id());
  CHECK(inner == outer);
  CHECK(outer_again == outer);
}

TEST_CASE("test_thread_sensitive_context_without_sync_work: an empty context makes no thread") {
  run_async_root([]() -> awaitable<void> {
    const auto before = kernel_thread_count();
    bool ran = false;
    auto body = [&]() -> awaitable<void> {
      ran = true;
      co_return;
    };
    co_await with_thread_sensitive_context(body);
    CHECK(ran);
    CHECK(kernel_thread_count() == before);
  });
}

TEST_CASE("test_thread_sensitive_with_context_different: two contexts at once have a thread each") {
  long ids[2] = {};
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    std::latch both_inside(2);
    auto request = [&](long& id) -> awaitable<void> {
      auto body = [&]() -> awaitable<void> {
        auto meet = sync_to_async(
            [&] {
              both_inside.arrive_and_wait();
              id = kernel_thread_id();
            },
            thread_sensitive);
        co_await meet();
      };
      co_await with_thread_sensitive_context(body);
    };
    child_task first(executor, [&] { return request(ids[0]); });
    child_task second(executor, [&] { return request(ids[1]); });
    co_await first.join();
    co_await second.join();
  });
  CHECK(ids[0] != 0);
  CHECK(ids[1] != 0);
  CHECK(ids[0] != ids[1]);
}

TEST_CASE(
    "test_thread_sensitive_context_exit_does_not_block_event_loop: a cancel in the hand-over, then "
    "leaving the context") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    heartbeat beat(executor);
    gate parked;
    std::atomic<long> lane{0};
    bool cancelled = false;
    auto forever = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      loop_event never(here);
      co_await never.wait();
    };
    auto body = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      auto park = sync_to_async(
          [&] {
            lane = kernel_thread_id();
            parked.open();
            async_to_sync(std::ref(forever))();
          },
          thread_sensitive);
      child_task task(here, [&] { return park(); });
      co_await yield_to_loop();
      // The loop stands still here, so what the blocked thread posts to it has not begun when the
      // cancel lands.
      parked.wait();
      CHECK(comes_true([&] { return thread_sleeps(lane); }));
      task.cancel();
      try {
        co_await task.join();
      } catch (const boost::system::system_error& e) {
        cancelled = is_cancellation(e);
      }
    };
    co_await with_thread_sensitive_context(body);
    CHECK(cancelled);
    auto still_ticks = sync_to_async([&] { beat.block_for_ticks(3); });
    co_await still_ticks();
  });
}

TEST_CASE(
    "test_thread_sensitive_context_exit_does_not_starve_default_executor: leaving a context takes "
    "no pool slot") {
  bothworlds::worker_pool pool(bothworlds::worker_pool_options{.soft_limit = 2, .hard_limit = 2});
  std::latch ended(2);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event contexts_left(executor);
    auto needs_a_slot = sync_to_async([] {}, {.pool = &pool});
    auto inner = [&](loop_event& begun) -> awaitable<void> {
      // From here on it cannot be cancelled.
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
      begun.set();
      co_await contexts_left.wait();
      co_await needs_a_slot();
    };
    auto request = [&]() -> awaitable<void> {
      loop_event begun(executor);
      auto park = sync_to_async(
          [&] {
            async_to_sync(std::ref(inner))(std::ref(begun));
            ended.count_down();
          },
          {.thread_sensitive = true, .on_cancel = bothworlds::cancel_policy::abandon});
      auto body = [&]() -> awaitable<void> {
        auto here = co_await asio::this_coro::executor;
        child_task task(here, [&] { return park(); });
        co_await begun.wait();
        task.cancel();
        try {
          co_await task.join();
        } catch (const boost::system::system_error& e) {
          CHECK(is_cancellation(e));
        }
      };
      co_await with_thread_sensitive_context(body);
    };
    child_task first(executor, request);
    child_task second(executor, request);
    co_await first.join();
    co_await second.join();
    contexts_left.set();
    const bool both = co_await comes_true_on_loop([&] { return ended.try_wait(); });
    CHECK(both);
  });
}

TEST_CASE(
    "test_thread_sensitive_double_nested_sync: two levels below a sync root it is still the root's "
    "thread") {
  long innermost = 0;
  auto level4 = [&] { innermost = kernel_thread_id(); };
  auto level3 = [&]() -> awaitable<void> {
    auto call = sync_to_async(std::ref(level4), thread_sensitive);
    co_await call();
  };
  auto level2 = [&] { async_to_sync(std::ref(level3))(); };
  auto level1 = [&]() -> awaitable<void> {
    auto call = sync_to_async(std::ref(level2), thread_sensitive);
    co_await call();
  };
  async_to_sync(std::ref(level1))();
  CHECK(innermost == kernel_thread_id());
}

TEST_CASE(
    "test_thread_sensitive_double_nested_async: two levels below an async root, async code is on "
    "its loop") {
  long innermost = 0;
  auto level4 = [&]() -> awaitable<void> {
    co_await yield_to_loop();
    innermost = kernel_thread_id();
  };
  auto level3 = [&] { async_to_sync(std::ref(level4))(); };
  auto level2 = [&]() -> awaitable<void> {
    auto call = sync_to_async(std::ref(level3), thread_sensitive);
    co_await call();
  };
  auto level1 = [&] { async_to_sync(std::ref(level2))(); };
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async(std::ref(level1), thread_sensitive);
    co_await call();
  });
  CHECK(innermost == kernel_thread_id());
}

TEST_CASE("test_thread_sensitive_disabled: other calls leave the root's thread alone") {
  long ran_on = 0;
  async_to_sync([&]() -> awaitable<void> {
    auto call = sync_to_async(kernel_thread_id);
    ran_on = co_await call();
  })();
  CHECK(ran_on != 0);
  CHECK(ran_on != kernel_thread_id());
}

TEST_CASE(
    "test_sync_to_async_deadlock_ignored_with_exception: a throwing call leaves nothing behind "
    "that looks stuck") {
  auto view = []() -> int { throw std::invalid_argument("no"); };
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async(view, thread_sensitive);
    for (int i = 0; i < 2; ++i) {
      bool thrown = false;
      try {
        co_await call();
      } catch (const std::invalid_argument&) {
        thrown = true;
      }
      CHECK(thrown);
    }
    auto nested = sync_to_async([] { return async_to_sync(sensitive_thread)(); }, thread_sensitive);
    const long lane = co_await nested();
    const long direct = co_await sensitive_thread();
    CHECK(lane == direct);
  });
}

TEST_CASE(
    "test_sync_to_async_with_blocker_thread_sensitive: the lane is held, which a timeout shows; "
    "other lanes go on") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate event;
    bool setter_ran = false;
    loop_event lane_is_held(executor);
    long other_lane = 0;
    child_task bystander(executor, [&]() -> awaitable<void> {
      co_await lane_is_held.wait();
      other_lane = co_await sensitive_thread();
    });
    auto body = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      gate blocked;
      auto blocker = sync_to_async(
          [&] {
            blocked.open();
            event.wait();
          },
          thread_sensitive);
      auto setter = sync_to_async([&] { setter_ran = true; }, thread_sensitive);
      child_task waiting(here, [&] { return blocker(); });
      co_await yield_to_loop();
      blocked.wait();

      lane_is_held.set();
      co_await bystander.join();
      CHECK(other_lane != 0);

      asio::steady_timer timeout(here, std::chrono::milliseconds(50));
      auto first = co_await (setter() || timeout.async_wait(asio::use_awaitable));
      CHECK(first.index() == 1);
      CHECK_FALSE(setter_ran);
      event.open();
      co_await waiting.join();
      co_await setter();
      CHECK(setter_ran);
    };
    co_await with_thread_sensitive_context(body);
  });
}

TEST_CASE(
    "test_sync_to_async_with_blocker_non_thread_sensitive: a blocker off the lane is in nobody's "
    "way") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate event;
    auto blocker = sync_to_async([&] {
      event.wait();
      return 42;
    });
    auto setter = sync_to_async([&] { event.open(); }, thread_sensitive);
    child_task trigger(executor, [&] { return setter(); });
    const int got = co_await blocker();
    CHECK(got == 42);
    co_await trigger.join();
  });
}

TEST_CASE(
    "test_sync_to_async_within_create_task: a sensitive call beside a timer, three layers down, is "
    "on the lane") {
  run_async_root([]() -> awaitable<void> {
    const long loop_id = kernel_thread_id();
    long middleware_ran_on = 0, task_ran_on = 0;
    auto view = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      asio::steady_timer timeout(here, std::chrono::seconds(60));
      auto outcome = co_await (sensitive_thread() || timeout.async_wait(asio::use_awaitable));
      REQUIRE(outcome.index() == 0);
      task_ran_on = std::get<0>(outcome);
    };
    auto middleware = sync_to_async(
        [&] {
          middleware_ran_on = kernel_thread_id();
          async_to_sync(std::ref(view))();
        },
        thread_sensitive);
    auto body = [&] { return middleware(); };
    co_await with_thread_sensitive_context(body);
    CHECK(middleware_ran_on != loop_id);
    CHECK(task_ran_on == middleware_ran_on);
  });
}

// Tasks that outlive the frame they were started in. What they still have to run thread-sensitively
// goes to the frame above.

TEST_CASE("test_nested_task: started in an inner frame, awaited after that frame has ended") {
  long ran_on = 0;
  auto inner = [&]() -> awaitable<child_task> {
    auto here = co_await asio::this_coro::executor;
    co_return child_task(here, [&] { return store_sensitive_thread(ran_on); });
  };
  async_to_sync([&]() -> awaitable<void> {
    auto blocking = async_to_sync(std::ref(inner));
    auto call = sync_to_async(blocking, thread_sensitive);
    auto task = co_await call();
    co_await task.join();
  })();
  CHECK(ran_on == kernel_thread_id());
}

TEST_CASE("test_nested_task_later: started by a timer after the frame has ended") {
  long ran_on = 0;
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event frame_ended(executor), started(executor);
    std::optional<child_task> task;
    std::optional<asio::steady_timer> timer;
    auto inner = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      timer.emplace(here, asio::steady_timer::time_point::max());
      timer->async_wait([&, here](const boost::system::error_code&) {
        task.emplace(here, [&] { return store_sensitive_thread(ran_on); });
        started.set();
      });
    };
    auto blocking = async_to_sync(std::ref(inner));
    auto call = sync_to_async(blocking, thread_sensitive);
    co_await call();
    timer->cancel();
    co_await started.wait();
    co_await task->join();
  })();
  CHECK(ran_on == kernel_thread_id());
}

TEST_CASE("test_double_nested_task: a task that starts a task, two frames down") {
  long ran_on = 0;
  auto inner = [&]() -> awaitable<child_task> {
    auto here = co_await asio::this_coro::executor;
    co_return child_task(here, [&] { return store_sensitive_thread(ran_on); });
  };
  std::optional<child_task> inner_task;
  auto outer = [&]() -> awaitable<child_task> {
    auto here = co_await asio::this_coro::executor;
    co_return child_task(here, [&]() -> awaitable<void> {
      auto blocking = async_to_sync(std::ref(inner));
      auto call = sync_to_async(blocking, thread_sensitive);
      inner_task = co_await call();
    });
  };
  async_to_sync([&]() -> awaitable<void> {
    auto blocking = async_to_sync(std::ref(outer));
    auto call = sync_to_async(blocking, thread_sensitive);
    auto outer_task = co_await call();
    co_await outer_task.join();
    co_await inner_task->join();
  })();
  CHECK(ran_on == kernel_thread_id());
}

TEST_CASE(
    "test_two_nested_tasks_with_asyncio_run: what two tasks have queued on a frame that ends is "
    "still run") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_barrier barrier(executor, 3);
    gate event;
    std::atomic<int> waits_done{0};
    auto inner = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      auto wait = sync_to_async(
          [&] {
            event.wait();
            ++waits_done;
          },
          thread_sensitive);
      child_task task(here, [&] { return wait(); });
      co_await barrier.arrive_and_wait();
      co_await task.join();
    };
    auto outer = [&]() -> awaitable<std::vector<child_task>> {
      auto here = co_await asio::this_coro::executor;
      std::vector<child_task> tasks;
      tasks.emplace_back(here, std::ref(inner));
      tasks.emplace_back(here, std::ref(inner));
      co_await barrier.arrive_and_wait();
      event.open();
      co_return tasks;
    };
    auto blocking = async_to_sync(std::ref(outer));
    auto call = sync_to_async(blocking, thread_sensitive);
    auto tasks = co_await call();
    co_await tasks[0].join();
    co_await tasks[1].join();
    CHECK(waits_done == 2);
  });
}
