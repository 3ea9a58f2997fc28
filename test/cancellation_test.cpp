// SPDX-License-Identifier: BSL-1.0
//
// Cancellation of calls: three policies, every phase, through nested crossings, twice and too late.

#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/thread/thread.hpp>

#include <doctest/doctest.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>

#include <unistd.h>

using namespace bothworlds::testing;
using namespace boost::asio::experimental::awaitable_operators;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

namespace {

constexpr cancel_policy all_policies[] = {cancel_policy::wait, cancel_policy::abandon, cancel_policy::interrupt};

/// True if the task ended with operation_aborted; what else it threw is thrown.
awaitable<bool> ends_cancelled(const child_task& task) {
  try {
    co_await task.join();
  } catch (const boost::system::system_error& e) {
    if (!is_cancellation(e)) throw;
    co_return true;
  }
  co_return false;
}

awaitable<void> wait_for_ever() {
  auto executor = co_await asio::this_coro::executor;
  loop_event never(executor);
  co_await never.wait();
}

/// A pool of one worker that is busy until it is released.
class occupied_pool {
 public:
  explicit occupied_pool(const asio::any_io_executor& loop)
      : occupy_(sync_to_async(std::ref(body_), {.pool = &pool_})), occupant_(loop, [this] { return occupy_(); }) {}

  awaitable<void> wait_until_busy() {
    co_await yield_to_loop();
    body_.running.wait();
  }
  awaitable<void> release() {
    body_.released.open();
    co_await occupant_.join();
  }
  worker_pool& pool() { return pool_; }

 private:
  struct body {
    gate running, released;
    void operator()() {
      running.open();
      released.wait();
    }
  };
  body body_;
  worker_pool pool_{worker_pool_options{.soft_limit = 1, .hard_limit = 1}};
  decltype(sync_to_async(std::declval<std::reference_wrapper<body>>())) occupy_;
  child_task occupant_;
};

} // namespace

TEST_CASE("a queued call that is cancelled never runs, whatever the policy and the type of cancellation") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (auto policy : all_policies) {
      for (auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                        asio::cancellation_type::total}) {
        occupied_pool occupied(executor);
        co_await occupied.wait_until_busy();
        bool touched = false;
        int interrupted = 0;
        const std::function<void()> interruptor = [&] { ++interrupted; };
        auto call = sync_to_async([&] { touched = true; },
                                  {.pool = &occupied.pool(), .on_cancel = policy, .interruptor = &interruptor});
        child_task queued(executor, [&]() -> awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          co_await call();
        });
        co_await yield_to_loop();
        co_await yield_to_loop();
        CHECK(occupied.pool().stats().queued == 1);
        queued.cancel(type);
        // It ends while the worker is still busy.
        const bool cancelled = co_await ends_cancelled(queued);
        CHECK(cancelled);
        CHECK(occupied.pool().stats().queued == 0);
        co_await occupied.release();
        auto flush = sync_to_async([] {}, {.pool = &occupied.pool()});
        co_await flush();
        CHECK_FALSE(touched);
        CHECK(interrupted == 0);
      }
    }
  });
}

TEST_CASE("a queued thread-sensitive call that is cancelled never runs") {
  bool touched = false;
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event busy(executor);
    gate release;
    auto occupy = sync_to_async(
        [&] {
          asio::post(executor, [&] { busy.set(); });
          release.wait();
        },
        {.thread_sensitive = true});
    auto call = sync_to_async([&] { touched = true; }, {.thread_sensitive = true});
    child_task occupant(executor, [&] { return occupy(); });
    co_await busy.wait();
    child_task queued(executor, [&] { return call(); });
    co_await yield_to_loop();
    queued.cancel();
    const bool cancelled = co_await ends_cancelled(queued);
    CHECK(cancelled);
    release.open();
    co_await occupant.join();
  })();
  CHECK_FALSE(touched);
}

TEST_CASE("wait: a running call is waited for, and its result or exception is delivered") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool throws : {false, true}) {
      gate running, release;
      auto call = sync_to_async([&] {
        running.open();
        release.wait();
        if (throws) throw 7;
        return 42;
      });
      int got = 0, thrown = 0;
      child_task task(executor, [&]() -> awaitable<void> {
        try {
          const int result = co_await call();
          got = result;
        } catch (int n) {
          thrown = n;
        }
      });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      for (int i = 0; i < 10; ++i) co_await yield_to_loop();
      CHECK_FALSE(task.done());
      release.open();
      co_await task.join();
      CHECK(got == (throws ? 0 : 42));
      CHECK(thrown == (throws ? 7 : 0));
    }
  });
}

TEST_CASE("a callable that takes a stop token is asked to stop, whatever the policy") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (auto policy : all_policies) {
      gate running, stopped;
      auto call = sync_to_async(
          [&](std::stop_token token) {
            running.open();
            std::mutex mutex;
            std::condition_variable_any changed;
            std::unique_lock lock(mutex);
            changed.wait(lock, token, [] { return false; });
            stopped.open();
            return 42;
          },
          {.on_cancel = policy});
      int got = 0;
      child_task task(executor, [&]() -> awaitable<void> {
        const int result = co_await call();
        got = result;
      });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled == (policy == cancel_policy::abandon));
      CHECK(got == (policy == cancel_policy::abandon ? 0 : 42));
      stopped.wait();
    }
    // What is abandoned may still be returning from the callable; its captures are this frame's.
    const bool idle = co_await comes_true_on_loop([] { return bothworlds::default_worker_pool().stats().busy == 0; });
    CHECK(idle);
  });
}

TEST_CASE("cancelled_call_frees_lane: an abandoned call completes at once, and stays counted and listed until it ends") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  gate running, release;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto call = sync_to_async(
        [&] {
          running.open();
          release.wait();
        },
        {.pool = &pool, .on_cancel = cancel_policy::abandon, .name = "left behind"});
    child_task task(executor, [&] { return call(); });
    co_await yield_to_loop();
    running.wait();
    CHECK(pool.stats().abandoned == 0);
    task.cancel();
    const bool cancelled = co_await ends_cancelled(task);
    CHECK(cancelled);
    CHECK_FALSE(release.is_open());
    CHECK(pool.stats().abandoned == 1);
    CHECK(pool.stats().busy == 1);

    // It keeps its slot: the next call waits for it.
    bool touched = false;
    auto next = sync_to_async([&] { touched = true; }, {.pool = &pool});
    child_task behind(executor, [&] { return next(); });
    for (int i = 0; i < 10; ++i) co_await yield_to_loop();
    CHECK_FALSE(touched);
    CHECK(pool.stats().queued == 1);
    behind.cancel();
    const bool behind_cancelled = co_await ends_cancelled(behind);
    CHECK(behind_cancelled);
  });
  const auto left = pool.shutdown(std::chrono::milliseconds(0));
  REQUIRE(left.size() == 1);
  CHECK(left[0].name == "left behind");
  release.open();
  CHECK(comes_true([&] { return pool.stats().busy == 0; }));
  CHECK(pool.shutdown(std::chrono::seconds(10)).empty());
}

TEST_CASE("cancelled_call_frees_lane: a lane whose call was abandoned serves the next when that call ends") {
  run_async_root([]() -> awaitable<void> {
    gate running, release;
    auto body = [&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      auto call = sync_to_async(
          [&] {
            running.open();
            release.wait();
          },
          {.thread_sensitive = true, .on_cancel = cancel_policy::abandon});
      child_task task(executor, [&] { return call(); });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      bool touched = false;
      auto next = sync_to_async([&] { touched = true; }, {.thread_sensitive = true});
      child_task behind(executor, [&] { return next(); });
      for (int i = 0; i < 10; ++i) co_await yield_to_loop();
      CHECK_FALSE(touched);
      release.open();
      co_await behind.join();
      CHECK(touched);
    };
    co_await bothworlds::with_thread_sensitive_context(body);
  });
}

TEST_CASE("an abandoned call's exception and result go nowhere, and hurt nobody") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool throws : {false, true}) {
      gate running, release;
      auto call = sync_to_async(
          [&] {
            running.open();
            release.wait();
            if (throws) throw 7;
            return std::make_unique<int>(1);
          },
          {.on_cancel = cancel_policy::abandon});
      child_task task(executor, [&]() -> awaitable<void> { co_await call(); });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      release.open();
      const bool idle =
          co_await comes_true_on_loop([] { return bothworlds::default_worker_pool().stats().busy == 0; });
      CHECK(idle);
    }
  });
}

TEST_CASE("interrupt: a callable in a Boost.Thread interruption point is interrupted, and the call is aborted") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running;
    bool unwound = false;
    auto call = sync_to_async(
        [&] {
          struct on_exit {
            bool& flag;
            ~on_exit() { flag = true; }
          } guard{unwound};
          boost::mutex mutex;
          boost::condition_variable never;
          boost::unique_lock<boost::mutex> lock(mutex);
          running.open();
          for (;;) never.wait(lock);
        },
        {.on_cancel = cancel_policy::interrupt});
    child_task task(executor, [&] { return call(); });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    const bool cancelled = co_await ends_cancelled(task);
    CHECK(cancelled);
    CHECK(unwound);
  });
}

TEST_CASE("interrupt: a callable that swallows the interruption delivers its result") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running;
    auto call = sync_to_async(
        [&] {
          running.open();
          try {
            for (;;) {
              boost::this_thread::interruption_point();
              boost::this_thread::yield();
            }
          } catch (const boost::thread_interrupted&) {
          }
          return 42;
        },
        {.on_cancel = cancel_policy::interrupt});
    int got = 0;
    child_task task(executor, [&]() -> awaitable<void> {
      const int result = co_await call();
      got = result;
    });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    co_await task.join();
    CHECK(got == 42);
  });
}

TEST_CASE("signal_proof_call: a callable stuck in a system call is ended through its interruptor") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    const long loop_id = kernel_thread_id();
    gate running;
    std::atomic<int> interruptions{0};
    std::atomic<long> worker{0}, interrupted_from{0};
    const std::function<void()> interruptor = [&] {
      ++interruptions;
      interrupted_from = kernel_thread_id();
      [[maybe_unused]] const auto written = ::write(ends[1], "x", 1);
    };
    auto call = sync_to_async(
        [&] {
          worker = kernel_thread_id();
          running.open();
          char byte = 0;
          while (::read(ends[0], &byte, 1) < 0) {
          }
          return byte;
        },
        {.on_cancel = cancel_policy::interrupt, .interruptor = &interruptor});
    char got = 0;
    child_task task(executor, [&]() -> awaitable<void> {
      const char byte = co_await call();
      got = byte;
    });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    task.cancel();
    co_await task.join();
    CHECK(got == 'x');
    CHECK(interruptions == 1);
    CHECK(interrupted_from != worker);
    CHECK(interrupted_from == loop_id);
  });
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("signal_proof_call: a call that cannot be interrupted is listed") {
  worker_pool pool;
  gate running, release;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto call = sync_to_async(
        [&] {
          running.open();
          release.wait();
        },
        {.pool = &pool, .on_cancel = cancel_policy::interrupt, .name = "deaf"});
    child_task task(executor, [&] { return call(); });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    const auto left = pool.shutdown(std::chrono::milliseconds(0));
    REQUIRE(left.size() == 1);
    CHECK(left[0].name == "deaf");
    release.open();
    co_await task.join();
  });
}

TEST_CASE("late_interrupt: an interruption never reaches the next job of the same worker") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    int leaked = 0;
    for (int i = 0; i < 1000; ++i) {
      gate running;
      std::atomic<bool> go{false};
      auto victim = sync_to_async(
          [&] {
            running.open();
            // Returns at about the time of the cancellation, without passing an interruption point.
            while (!go) {
            }
          },
          {.pool = &pool, .on_cancel = cancel_policy::interrupt});
      auto next = sync_to_async(
          [&] {
            try {
              boost::this_thread::interruption_point();
            } catch (const boost::thread_interrupted&) {
              return true;
            }
            return boost::this_thread::interruption_requested();
          },
          {.pool = &pool});
      child_task task(executor, [&] { return victim(); });
      co_await yield_to_loop();
      running.wait();
      if (i % 2) {
        go = true;
        task.cancel();
      } else {
        task.cancel();
        go = true;
      }
      co_await ends_cancelled(task);
      const bool reached = co_await next();
      leaked += reached;
    }
    CHECK(leaked == 0);
  });
}

TEST_CASE("late_interrupt: an interruption of a nested call's waiter is not left on its thread") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (int i = 0; i < 50; ++i) {
      loop_event inside(executor);
      auto inner = [&]() -> awaitable<void> {
        inside.set();
        co_await wait_for_ever();
      };
      auto blocks = sync_to_async([&] { async_to_sync(std::ref(inner))(); },
                                  {.pool = &pool, .on_cancel = cancel_policy::interrupt});
      child_task task(executor, [&] { return blocks(); });
      co_await inside.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      auto next = sync_to_async([] { return boost::this_thread::interruption_requested(); }, {.pool = &pool});
      const bool reached = co_await next();
      CHECK_FALSE(reached);
    }
  });
}

TEST_CASE("cancel_twice_or_late: the outcome is the same, and nobody is left behind") {
  worker_pool pool(worker_pool_options{.soft_limit = 2, .hard_limit = 2});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (auto policy : all_policies) {
      gate running, release;
      auto call = sync_to_async(
          [&] {
            running.open();
            release.wait();
            return 42;
          },
          {.pool = &pool, .on_cancel = policy});
      int got = 0;
      child_task task(executor, [&]() -> awaitable<void> {
        const int result = co_await call();
        got = result;
      });
      co_await yield_to_loop();
      running.wait();
      for (int i = 0; i < 3; ++i) task.cancel();
      co_await yield_to_loop();
      for (int i = 0; i < 3; ++i) task.cancel();
      release.open();
      const bool cancelled = co_await ends_cancelled(task);
      for (int i = 0; i < 3; ++i) task.cancel();
      CHECK(cancelled == (policy == cancel_policy::abandon));
      CHECK(got == (cancelled ? 0 : 42));
      const bool idle = co_await comes_true_on_loop([&] { return pool.stats().busy == 0; });
      CHECK(idle);
    }
    CHECK(pool.stats().queued == 0);
    CHECK(pool.stats().abandoned == 1);
  });
}

TEST_CASE("cancel_before_pickup: ten thousand cancelled calls leave the number of threads as it was") {
  worker_pool pool(worker_pool_options{.soft_limit = 4, .hard_limit = 4});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    std::atomic<int> ran{0};
    int cancelled = 0, completed = 0, most_threads = 0;
    const int before = kernel_thread_count();
    auto cancel_one = [&](auto& call) -> awaitable<void> {
      child_task task(executor, [&] { return call(); });
      if ((cancelled + completed) % 2) co_await yield_to_loop();
      task.cancel();
      const bool was_cancelled = co_await ends_cancelled(task);
      (was_cancelled ? cancelled : completed) += 1;
      if ((cancelled + completed) % 100 == 0) most_threads = std::max(most_threads, kernel_thread_count());
    };

    // Half of them at about the time when a worker picks the call up.
    auto racing = sync_to_async([&] { ++ran; }, {.pool = &pool});
    for (int i = 0; i < 5'000; ++i) co_await cancel_one(racing);
    CHECK(cancelled + completed == 5'000);
    const bool idle = co_await comes_true_on_loop([&] { return pool.stats().busy == 0; });
    CHECK(idle);
    CHECK(pool.stats().queued == 0);
    CHECK(ran >= completed);
    CHECK(pool.stats().threads <= 4);

    // And half of them when none can.
    occupied_pool occupied(executor);
    co_await occupied.wait_until_busy();
    ran = cancelled = completed = 0;
    auto behind = sync_to_async([&] { ++ran; }, {.pool = &occupied.pool()});
    for (int i = 0; i < 5'000; ++i) co_await cancel_one(behind);
    CHECK(cancelled == 5'000);
    CHECK(occupied.pool().stats().queued == 0);
    co_await occupied.release();
    co_await behind();
    CHECK(ran == 1);
    CHECK(occupied.pool().stats().threads == 1);
    CHECK(most_threads <= before + 5);
  });
}

TEST_CASE("a call beside a timer is cancelled by it, in every phase") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    SUBCASE("queued: it never runs") {
      occupied_pool occupied(executor);
      co_await occupied.wait_until_busy();
      bool touched = false;
      auto call = sync_to_async([&] { touched = true; }, {.pool = &occupied.pool()});
      asio::steady_timer timer(executor, std::chrono::milliseconds(5));
      auto first = co_await (call() || timer.async_wait(asio::use_awaitable));
      CHECK(first.index() == 1);
      co_await occupied.release();
      CHECK_FALSE(touched);
    }
    SUBCASE("running: it is waited for") {
      gate running, release;
      bool ended = false;
      auto call = sync_to_async([&] {
        running.open();
        release.wait();
        ended = true;
      });
      auto timer = [&]() -> awaitable<void> {
        co_await yield_to_loop();
        running.wait();
        asio::post(executor, [&] { release.open(); });
      };
      auto first = co_await (call() || timer());
      CHECK(first.index() == 1);
      CHECK(ended);
    }
    SUBCASE("completed: it wins, and the timer goes") {
      auto call = sync_to_async([] { return 42; });
      asio::steady_timer timer(executor, std::chrono::hours(1));
      auto first = co_await (call() || timer.async_wait(asio::use_awaitable));
      REQUIRE(first.index() == 0);
      CHECK(std::get<0>(first) == 42);
    }
  });
}

TEST_CASE("a call in a coroutine that was cancelled before is not started") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    bool touched = false;
    auto call = sync_to_async([&] { touched = true; });
    child_task task(executor, [&]() -> awaitable<void> {
      bool caught = false;
      try {
        co_await wait_for_ever();
      } catch (const boost::system::system_error&) {
        caught = true;
      }
      CHECK(caught);
      co_await call();
    });
    co_await yield_to_loop();
    task.cancel();
    const bool was_cancelled = co_await ends_cancelled(task);
    CHECK(was_cancelled);
    CHECK_FALSE(touched);
  });
}

TEST_CASE("cancel_in_handoff: a cancel between the post and the first step of nested async code is not lost") {
  for (int round = 0; round < 20; ++round) {
    run_async_root([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      gate parked;
      std::atomic<long> worker{0};
      auto park = sync_to_async([&] {
        worker = kernel_thread_id();
        parked.open();
        async_to_sync(wait_for_ever)();
      });
      child_task task(executor, [&] { return park(); });
      co_await yield_to_loop();
      // The loop stands still until the worker has posted, at least in the even rounds.
      parked.wait();
      if (round % 2 == 0) CHECK(comes_true([&] { return thread_sleeps(worker); }));
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
    });
  }
}

TEST_CASE("cancel_after_nesting: after a nested round trip a later cancel still reaches the inner call") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool sensitive : {false, true}) {
      loop_event second_begun(executor);
      bool inner_cancelled = false;
      auto second = [&]() -> awaitable<void> {
        second_begun.set();
        try {
          co_await wait_for_ever();
        } catch (const boost::system::system_error& e) {
          inner_cancelled = is_cancellation(e);
          throw;
        }
      };
      auto nested = sync_to_async(
          [&] {
            for (int i = 0; i < 3; ++i) async_to_sync(yield_to_loop)();
            async_to_sync(std::ref(second))();
          },
          {.thread_sensitive = sensitive});
      child_task task(executor, [&] { return nested(); });
      co_await second_begun.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      CHECK(inner_cancelled);
    }
  });
}

TEST_CASE("cancel_after_nesting: a cancel that lands between two nested calls reaches the next one") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool sensitive : {false, true}) {
      loop_event between(executor);
      gate cancel_is_out;
      auto nested = sync_to_async(
          [&] {
            async_to_sync(yield_to_loop)();
            asio::post(executor, [&] { between.set(); });
            cancel_is_out.wait();
            async_to_sync(wait_for_ever)();
          },
          {.thread_sensitive = sensitive});
      child_task task(executor, [&] { return nested(); });
      co_await between.wait();
      task.cancel();
      co_await yield_to_loop();
      cancel_is_out.open();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
    }
  });
}

TEST_CASE("a cancel travels down through five layers, and up again as operation_aborted") {
  struct layers {
    loop_event& innermost;
    awaitable<void> down(int depth) {
      if (depth == 0) {
        innermost.set();
        co_await wait_for_ever();
      }
      auto call = sync_to_async(&layers::block, {.thread_sensitive = depth % 2 == 0});
      co_await call(this, depth);
    }
    void block(int depth) { async_to_sync(&layers::down)(this, depth - 1); }
  };
  SUBCASE("from an async root, by a slot") {
    run_async_root([]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      loop_event innermost(executor);
      layers nested{innermost};
      child_task task(executor, [&] { return nested.down(5); });
      co_await innermost.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
    });
  }
  SUBCASE("from a sync root, by a stop token") {
    std::stop_source source;
    bool aborted = false;
    try {
      async_to_sync(
          [&]() -> awaitable<void> {
            auto executor = co_await asio::this_coro::executor;
            loop_event innermost(executor);
            layers nested{innermost};
            child_task stopper(executor, [&]() -> awaitable<void> {
              co_await innermost.wait();
              source.request_stop();
            });
            co_await nested.down(5);
          },
          {.stop = source.get_token()})();
    } catch (const boost::system::system_error& e) {
      aborted = is_cancellation(e);
    }
    CHECK(aborted);
  }
  SUBCASE("from a sync root, by a timeout") {
    boost::system::error_code code;
    try {
      async_to_sync(
          [&]() -> awaitable<void> {
            auto executor = co_await asio::this_coro::executor;
            loop_event innermost(executor);
            layers nested{innermost};
            co_await nested.down(5);
          },
          {.timeout = std::chrono::milliseconds(50)})();
    } catch (const bothworlds::error& e) {
      code = e.code();
    }
    CHECK(code == bothworlds::errc::timed_out);
  }
}
