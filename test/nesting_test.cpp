// SPDX-License-Identifier: BSL-1.0
//
// Crossings inside crossings: any depth, any width, with the smallest of pools.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/only_connection.hpp"
#include "support/test_executors.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

#include <condition_variable>
#include <future>
#include <latch>
#include <mutex>
#include <optional>
#include <vector>

#include <malloc.h>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::with_thread_sensitive_context;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

namespace {

/// `levels` pairs of a blocking callable and a coroutine, one inside the other; counts the blocking
/// ones.
struct nest {
  sync_options options;

  awaitable<int> async_level(int levels) {
    if (levels == 0) co_return 0;
    auto call = sync_to_async(&nest::sync_level, options);
    const int below = co_await call(this, levels);
    co_return below + 1;
  }
  int sync_level(int levels) { return async_to_sync(&nest::async_level)(this, levels - 1); }
};

int depth_from_sync_root(sync_options options, int levels) {
  nest layers{options};
  return async_to_sync(&nest::async_level)(&layers, levels);
}

int depth_from_async_root(sync_options options, int levels) {
  nest layers{options};
  int depth = 0;
  run_async_root([&]() -> awaitable<void> { depth = co_await layers.async_level(levels); });
  return depth;
}

/// A is blocked in a nested call and waits for its sibling B, which first needs a thread-sensitive
/// call.
awaitable<void> siblings_need_the_same_thread(long expected_thread) {
  auto executor = co_await asio::this_coro::executor;
  loop_event a_is_blocked(executor), b_has_called(executor);
  long a_thread = 0, b_thread = 0;
  auto wait_for_b = [&]() -> awaitable<void> {
    a_is_blocked.set();
    co_await b_has_called.wait();
  };
  auto block = sync_to_async(
      [&] {
        a_thread = kernel_thread_id();
        async_to_sync(std::ref(wait_for_b))();
      },
      thread_sensitive);
  child_task a(executor, [&] { return block(); });
  child_task b(executor, [&]() -> awaitable<void> {
    co_await a_is_blocked.wait();
    b_thread = co_await sensitive_thread();
    b_has_called.set();
  });
  co_await a.join();
  co_await b.join();
  CHECK(a_thread == expected_thread);
  CHECK(b_thread == expected_thread);
}

}  // namespace

TEST_CASE(
    "pump_every_frame: under a sync root, a call of the outer frame is served below the inner "
    "one") {
  async_to_sync(siblings_need_the_same_thread)(kernel_thread_id());
}

TEST_CASE("pump_every_frame: with three frames on the thread, the outermost is still served") {
  const long root = kernel_thread_id();
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event deep(executor), served(executor);
    auto innermost = [&]() -> awaitable<void> {
      deep.set();
      co_await served.wait();
    };
    auto middle = [&]() -> awaitable<void> {
      auto call = sync_to_async([&] { async_to_sync(std::ref(innermost))(); }, thread_sensitive);
      co_await call();
    };
    auto outer = sync_to_async([&] { async_to_sync(std::ref(middle))(); }, thread_sensitive);
    child_task nested(executor, [&] { return outer(); });
    co_await deep.wait();
    const long ran_on = co_await sensitive_thread();
    CHECK(ran_on == root);
    served.set();
    co_await nested.join();
  })();
}

TEST_CASE("pump_every_frame_async_root: the same below a callable of an async root") {
  SUBCASE("on the lane of the process") {
    run_async_root([]() -> awaitable<void> {
      auto outer =
          sync_to_async([] { async_to_sync(siblings_need_the_same_thread)(kernel_thread_id()); },
                        thread_sensitive);
      co_await outer();
    });
  }
  SUBCASE("on the lane of a context") {
    run_async_root([]() -> awaitable<void> {
      auto body = []() -> awaitable<void> {
        auto outer =
            sync_to_async([] { async_to_sync(siblings_need_the_same_thread)(kernel_thread_id()); },
                          thread_sensitive);
        co_await outer();
      };
      co_await with_thread_sensitive_context(body);
    });
  }
  SUBCASE("with both siblings directly in a context") {
    run_async_root([]() -> awaitable<void> {
      auto body = []() -> awaitable<void> {
        const long lane = co_await sensitive_thread();
        co_await siblings_need_the_same_thread(lane);
      };
      co_await with_thread_sensitive_context(body);
    });
  }
}

TEST_CASE("nest_depth_pool_one: any depth completes with one worker, from either root") {
  worker_pool one(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  const sync_options options{.pool = &one};
  for (int levels : {1, 2, 3, 8, 64}) {
    CHECK(depth_from_sync_root(options, levels) == levels);
    CHECK(depth_from_async_root(options, levels) == levels);
  }
  CHECK(one.stats().threads <= 1);
}

TEST_CASE("nest_depth_pool_one: several deep chains at once share the one worker") {
  worker_pool one(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    nest layers{{.pool = &one}};
    int total = 0;
    std::vector<child_task> chains;
    for (int i = 0; i < 8; ++i)
      chains.emplace_back(executor, [&]() -> awaitable<void> {
        const int depth = co_await layers.async_level(8);
        total += depth;
      });
    for (auto& chain : chains) co_await chain.join();
    CHECK(total == 64);
  });
}

TEST_CASE("nest_depth_pool_one: fan-out at every level") {
  worker_pool one(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  struct tree {
    worker_pool* pool;
    std::atomic<int> leaves{0};
    awaitable<void> branch(int levels) {
      if (levels == 0) {
        ++leaves;
        co_return;
      }
      auto executor = co_await asio::this_coro::executor;
      auto call = sync_to_async(&tree::block, {.pool = pool});
      std::vector<child_task> children;
      for (int i = 0; i < 3; ++i)
        children.emplace_back(executor, [&] { return call(this, levels); });
      for (auto& child : children) co_await child.join();
    }
    void block(int levels) { async_to_sync (&tree::branch)(this, levels - 1); }
  };
  SUBCASE("from a sync root") {
    tree grown{&one};
    async_to_sync (&tree::branch)(&grown, 4);
    CHECK(grown.leaves == 81);
  }
  SUBCASE("from an async root") {
    tree grown{&one};
    run_async_root([&] { return grown.branch(4); });
    CHECK(grown.leaves == 81);
  }
}

TEST_CASE(
    "thousand_nested: a thousand crossings complete, or end in one error; the stack does not "
    "overflow") {
  auto complete_or_error = [](auto attempt) {
    try {
      const int depth = attempt();
      CHECK(depth == 1000);
    } catch (const bothworlds::error& e) {
      // The depth is in the report.
      const std::string report = e.report();
      CHECK(report.find_first_of("123456789") != std::string::npos);
      MESSAGE(report);
    }
  };
  SUBCASE("on the threads of the default pool") {
    complete_or_error([] { return depth_from_sync_root({}, 1000); });
    complete_or_error([] { return depth_from_async_root({}, 1000); });
  }
  SUBCASE("on one worker") {
    worker_pool one(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
    complete_or_error([&] { return depth_from_sync_root({.pool = &one}, 1000); });
    complete_or_error([&] { return depth_from_async_root({.pool = &one}, 1000); });
  }
  SUBCASE("on the sync thread of the chain") {
    complete_or_error([] { return depth_from_sync_root(thread_sensitive, 1000); });
    complete_or_error([] { return depth_from_async_root(thread_sensitive, 1000); });
  }
}

TEST_CASE(
    "complete_with_all_slots_taken: a completion is delivered while every worker is blocked") {
  worker_pool two(worker_pool_options{.soft_limit = 2, .hard_limit = 2});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate release;
    std::latch both_run(2);
    auto occupy = sync_to_async(
        [&] {
          both_run.count_down();
          release.wait();
        },
        {.pool = &two});
    auto no_op = sync_to_async([] {}, {.pool = &two});
    co_await no_op();
    child_task first(executor, [&] { return occupy(); });
    child_task second(executor, [&] { return occupy(); });
    co_await yield_to_loop();
    both_run.wait();

    // Completion of a cancelled call that is queued behind them.
    child_task queued(executor, [&] { return no_op(); });
    co_await yield_to_loop();
    queued.cancel();
    bool cancelled = false;
    try {
      co_await queued.join();
    } catch (const boost::system::system_error& e) {
      cancelled = is_cancellation(e);
    }
    CHECK(cancelled);

    // Completion of a call that ran on another pool, and of a nested one.
    auto elsewhere = sync_to_async([] {
      return async_to_sync([]() -> awaitable<int> {
        co_await yield_to_loop();
        co_return 1;
      })();
    });
    const int one = co_await elsewhere();
    CHECK(one == 1);
    release.open();
    co_await first.join();
    co_await second.join();
  });
}

TEST_CASE(
    "complete_with_all_slots_taken: nested calls complete while their callers hold every slot") {
  worker_pool two(worker_pool_options{.soft_limit = 2, .hard_limit = 2});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_barrier all_blocked(executor, 2);
    auto inner = [&]() -> awaitable<int> {
      co_await all_blocked.arrive_and_wait();
      auto needs_a_slot = sync_to_async([] { return 21; }, {.pool = &two});
      co_return co_await needs_a_slot();
    };
    auto outer = sync_to_async([&] { return async_to_sync(std::ref(inner))(); }, {.pool = &two});
    int sum = 0;
    auto add = [&]() -> awaitable<void> {
      const int half = co_await outer();
      sum += half;
    };
    child_task first(executor, add), second(executor, add);
    co_await first.join();
    co_await second.join();
    CHECK(sum == 42);
  });
}

TEST_CASE(
    "mutex_holder_in_bridge: the holder of a mutex gets on while its peers block on all slots") {
  worker_pool two(worker_pool_options{.soft_limit = 2, .hard_limit = 3});
  std::mutex mutex;
  int guarded = 0;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event holder_in_bridge(executor), slots_are_taken(executor);
    auto inner = [&]() -> awaitable<void> {
      holder_in_bridge.set();
      co_await slots_are_taken.wait();
      auto needs_a_slot = sync_to_async([&] { ++guarded; }, {.pool = &two});
      co_await needs_a_slot();
    };
    auto hold = sync_to_async(
        [&] {
          std::lock_guard lock(mutex);
          async_to_sync(std::ref(inner))();
        },
        {.pool = &two});
    auto contend = sync_to_async(
        [&] {
          std::lock_guard lock(mutex);
          ++guarded;
        },
        {.pool = &two});
    child_task holder(executor, [&] { return hold(); });
    co_await holder_in_bridge.wait();
    std::vector<child_task> peers;
    for (int i = 0; i < 8; ++i) peers.emplace_back(executor, [&] { return contend(); });
    const bool taken = co_await comes_true_on_loop([&] {
      const auto stats = two.stats();
      return stats.queued > 0 && stats.busy >= stats.threads;
    });
    CHECK(taken);
    slots_are_taken.set();
    co_await holder.join();
    for (auto& peer : peers) co_await peer.join();
  });
  CHECK(guarded == 9);
}

TEST_CASE(
    "teardown_behind_acquirers: a release gets through when those who wait for it say that they "
    "block") {
  worker_pool two(worker_pool_options{.soft_limit = 2, .hard_limit = 16});
  only_connection only_one;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    int served = 0;
    auto request = [&]() -> awaitable<void> {
      auto acquire = sync_to_async(&only_connection::acquire, {.pool = &two});
      auto release = sync_to_async(&only_connection::release, {.pool = &two});
      co_await acquire(&only_one);
      co_await yield_to_loop();
      ++served;
      co_await release(&only_one);
    };
    std::vector<child_task> requests;
    for (int i = 0; i < 8; ++i) requests.emplace_back(executor, request);
    for (auto& one : requests) co_await one.join();
    CHECK(served == 8);
  });
}

TEST_CASE(
    "failed_submit: calls that could not be submitted leave nothing behind that looks stuck") {
  worker_pool closed;
  closed.shutdown(std::chrono::seconds(1));
  asio::io_context no_threads;
  const asio::any_io_executor refusing = refusing_executor(no_threads);
  async_to_sync([&]() -> awaitable<void> {
    auto to_closed = sync_to_async([] {}, {.pool = &closed});
    auto to_refusing = sync_to_async([] {}, {.executor = &refusing});
    auto nested = sync_to_async([] { return async_to_sync(sensitive_thread)(); }, thread_sensitive);
    const long root = kernel_thread_id();
    for (int i = 0; i < 10; ++i) {
      bool refused = false;
      try {
        co_await to_closed();
      } catch (const bothworlds::error& e) {
        refused = e.code() == bothworlds::errc::pool_closed;
      }
      CHECK(refused);
      refused = false;
      try {
        co_await to_refusing();
      } catch (const submit_refused&) {
        refused = true;
      }
      CHECK(refused);
      const long ran_on = co_await nested();
      CHECK(ran_on == root);
    }
  })();
}

TEST_CASE(
    "late_task: a task that outlives the root's call never sees the next call's frame, and does "
    "not hang") {
  std::optional<child_task> late;
  std::optional<loop_event> next_call_runs;
  const long root = kernel_thread_id();
  long late_ran_on = 0;
  bool late_failed_precisely = false;
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    next_call_runs.emplace(executor);
    late.emplace(executor, [&]() -> awaitable<void> {
      co_await next_call_runs->wait();
      try {
        late_ran_on = co_await sensitive_thread();
      } catch (const bothworlds::error& e) {
        late_failed_precisely = !e.report().empty();
      }
    });
    co_await yield_to_loop();
  })();
  async_to_sync([&]() -> awaitable<void> {
    next_call_runs->set();
    co_await late->join();
    const long own = co_await sensitive_thread();
    CHECK(own == root);
  })();
  CHECK((late_ran_on != 0) != late_failed_precisely);
  late.reset();
  next_call_runs.reset();
}

TEST_CASE("late_task: a task that outlives a nested frame goes on above it, many times over") {
  for (int round = 0; round < 50; ++round) {
    long ran_on = 0;
    async_to_sync([&]() -> awaitable<void> {
      std::optional<child_task> late;
      auto inner = [&]() -> awaitable<void> {
        auto here = co_await asio::this_coro::executor;
        late.emplace(here, [&]() -> awaitable<void> { ran_on = co_await sensitive_thread(); });
        // Ends without waiting: the call may be queued before, while or after this frame goes.
        if (round % 2) co_await yield_to_loop();
      };
      auto nested = sync_to_async([&] { async_to_sync(std::ref(inner))(); },
                                  {.thread_sensitive = round % 3 != 0});
      co_await nested();
      co_await late->join();
    })();
    CHECK(ran_on == kernel_thread_id());
  }
}

TEST_CASE(
    "late_task: a task that outlives a nested frame on the process's lane reaches the frame above "
    "it "
    "that still blocks that lane") {
  long lane = 0, ran_on = 0;
  auto outer = [&]() -> awaitable<void> {
    loop_event frame_has_gone(co_await asio::this_coro::executor);
    std::optional<child_task> late;
    auto inner = [&]() -> awaitable<void> {
      late.emplace(co_await asio::this_coro::executor, [&]() -> awaitable<void> {
        co_await frame_has_gone.wait();
        ran_on = co_await sensitive_thread();
      });
    };
    auto nested =
        sync_to_async([&] { async_to_sync(std::ref(inner))(); }, {.thread_sensitive = true});
    co_await nested();
    frame_has_gone.set();
    co_await late->join();
  };
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async(
        [&] {
          lane = kernel_thread_id();
          async_to_sync(std::ref(outer))();
        },
        {.thread_sensitive = true});
    co_await call();
  });
  CHECK(ran_on == lane);
}

TEST_CASE(
    "late_task: after a call below one that has ended, its thread's next root call has that thread "
    "for "
    "its thread-sensitive calls") {
  asio::thread_pool threads(1);
  const asio::any_io_executor there = threads.get_executor();
  gate root_has_ended;
  std::promise<bool> same;
  std::thread([&] {
    async_to_sync([&]() -> awaitable<void> {
      auto call = sync_to_async(
          [&] {
            root_has_ended.wait();
            async_to_sync(answer, {.force_new_loop = true})();
          },
          {.executor = &there});
      auto outlives = [](auto awaited) -> awaitable<void> { co_await awaited(); };
      asio::co_spawn(co_await asio::this_coro::executor, outlives(std::move(call)), asio::detached);
      co_await yield_to_loop();
    })();
    root_has_ended.open();
    asio::post(threads, [&] {
      const bothworlds::blocking_region may_block;
      same.set_value(async_to_sync(sensitive_thread)() == kernel_thread_id());
    });
    CHECK(same.get_future().get());
  }).join();
  threads.join();
}

TEST_CASE(
    "a coroutine that spawns its successor, and ends after it has begun, leaves nothing behind") {
  struct generations {
    int left = 0;
    awaitable<void> next() {
      if (--left > 0) bothworlds::spawn(co_await asio::this_coro::executor, next(), asio::detached);
      for (int turn = 0; turn < 3; ++turn) co_await yield_to_loop();
    }
  } chain;
  async_to_sync([&]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    const auto heap_after = [&](int count) -> awaitable<std::size_t> {
      chain.left = count;
      bothworlds::spawn(executor, chain.next(), asio::detached);
      while (chain.left > 0) co_await yield_to_loop();
      co_return ::mallinfo2().uordblks;
    };
    const std::size_t warm = co_await heap_after(100);
    const std::size_t later = co_await heap_after(2'000);
    CHECK(later <= warm + 100'000);
  })();
}
