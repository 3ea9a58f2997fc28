// SPDX-License-Identifier: BSL-1.0

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/channel_error.hpp>
#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using namespace std::chrono_literals;
using bothworlds::async_to_sync;
using bothworlds::channel;
using bothworlds::errc;
using bothworlds::error;
using bothworlds::misuse_error;
using bothworlds::sync_to_async;

namespace {

using int_channel = channel<int>;

/// How a send or a receive ended, for both faces.
enum class ending { done, closed, cancelled, timed_out };

template <class F>
ending ending_of(F f) {
  try {
    return f() ? ending::done : ending::closed;
  } catch (const boost::system::system_error& e) {
    if (e.code() == asio::experimental::error::channel_closed) return ending::closed;
    if (e.code() == errc::timed_out) return ending::timed_out;
    if (is_cancellation(e)) return ending::cancelled;
    throw;
  }
}

awaitable<void> send_all(int_channel& to, int begin, int end) {
  for (int i = begin; i < end; ++i) co_await to.send(i);
}

awaitable<std::vector<int>> receive_all(int_channel& from) {
  std::vector<int> items;
  for (;;) {
    const std::optional<int> item = co_await from.receive();
    if (!item) co_return items;
    items.push_back(*item);
  }
}

std::vector<int> receive_all_blocking(int_channel& from) {
  std::vector<int> items;
  while (const std::optional<int> item = from.receive_blocking()) items.push_back(*item);
  return items;
}

std::vector<int> numbers(int count) {
  std::vector<int> all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

awaitable<ending> ending_of_send(int_channel& to, int item) {
  ending result = ending::done;
  try {
    co_await to.send(item);
  } catch (const boost::system::system_error& e) {
    result = is_cancellation(e) ? ending::cancelled : ending::closed;
  }
  co_return result;
}

awaitable<ending> ending_of_receive(int_channel& from) {
  ending result = ending::closed;
  try {
    const std::optional<int> item = co_await from.receive();
    if (item) result = ending::done;
  } catch (const boost::system::system_error&) {
    result = ending::cancelled;
  }
  co_return result;
}

}  // namespace

TEST_CASE("items come out in the order in which they went in, whatever the capacity") {
  for (const std::size_t capacity : {0, 1, 2, 100}) {
    CAPTURE(capacity);
    int_channel numbered(capacity);
    std::vector<int> received;
    run_async_root([&]() -> awaitable<void> {
      const asio::any_io_executor executor = co_await asio::this_coro::executor;
      const auto produce = [&]() -> awaitable<void> {
        co_await send_all(numbered, 0, 500);
        numbered.close();
      };
      const child_task producer(executor, produce);
      received = co_await receive_all(numbered);
      co_await producer.join();
    });
    CHECK(received == numbers(500));
  }
}

TEST_CASE("a thread sends to a coroutine, and a coroutine to a thread") {
  for (const std::size_t capacity : {0, 1, 16}) {
    CAPTURE(capacity);
    int_channel there(capacity);
    int_channel back(capacity);
    std::vector<int> received;
    std::thread thread([&] {
      while (const std::optional<int> item = there.receive_blocking())
        CHECK(back.send_blocking(*item));
      back.close();
    });
    run_async_root([&]() -> awaitable<void> {
      const asio::any_io_executor executor = co_await asio::this_coro::executor;
      const auto produce = [&]() -> awaitable<void> {
        co_await send_all(there, 0, 300);
        there.close();
      };
      const child_task producer(executor, produce);
      received = co_await receive_all(back);
      co_await producer.join();
    });
    thread.join();
    CHECK(received == numbers(300));
  }
}

TEST_CASE("items gather between two threads, and none is left behind when the channel closes") {
  for (int round = 0; round < 20; ++round) {
    int_channel roomy(8);
    constexpr int count = 500;
    std::jthread sender([&] {
      for (int i = 0; i < count; ++i) REQUIRE(roomy.send_blocking(i));
      roomy.close();
    });
    int expected = 0;
    while (const std::optional<int> item = roomy.receive_blocking()) REQUIRE(*item == expected++);
    CHECK(expected == count);
    CHECK(roomy.size() == 0);
  }
}

TEST_CASE(
    "two_loops_one_process: every item of many senders reaches one of many receivers, once, across "
    "loops and threads") {
  constexpr int each = 400;
  for (const std::size_t capacity : {0, 1, 8}) {
    CAPTURE(capacity);
    int_channel shared(capacity);
    std::mutex mutex;
    std::vector<int> received;
    const auto keep = [&](const std::vector<int>& items) {
      const std::lock_guard lock(mutex);
      received.insert(received.end(), items.begin(), items.end());
    };
    std::latch senders(4);
    std::latch receivers(4);
    {
      loop_thread loops[2];
      const auto produce = [&](int first) -> awaitable<void> {
        co_await send_all(shared, first, first + each);
        senders.count_down();
      };
      const auto consume = [&]() -> awaitable<void> {
        const std::vector<int> items = co_await receive_all(shared);
        keep(items);
        receivers.count_down();
      };
      std::vector<std::jthread> threads;
      for (int i = 0; i < 2; ++i) {
        asio::co_spawn(loops[i].executor(), [&, i] { return produce(i * each); }, asio::detached);
        asio::co_spawn(loops[i].executor(), consume, asio::detached);
        threads.emplace_back([&, i] {
          for (int n = (i + 2) * each; n < (i + 3) * each; ++n) CHECK(shared.send_blocking(n));
          senders.count_down();
        });
        threads.emplace_back([&] {
          keep(receive_all_blocking(shared));
          receivers.count_down();
        });
      }
      senders.wait();
      shared.close();
      receivers.wait();
    }
    std::sort(received.begin(), received.end());
    CHECK(received == numbers(4 * each));
  }
}

TEST_CASE("channel_close_wakes_all: coroutines and threads, receivers and senders") {
  for (const bool sending : {false, true}) {
    CAPTURE(sending);
    int_channel closing(sending ? 1 : 5);
    int filling = 7;
    if (sending) REQUIRE(closing.try_send(filling));
    constexpr int of_each = 3;
    std::vector<ending> of_threads(of_each);
    std::vector<ending> of_coroutines(of_each);
    std::vector<long> ids(of_each);
    std::latch started(of_each);
    std::vector<std::thread> threads;
    for (int i = 0; i < of_each; ++i)
      threads.emplace_back([&, i] {
        ids[i] = kernel_thread_id();
        started.count_down();
        of_threads[i] = ending_of([&] {
          return sending ? closing.send_blocking(i) : closing.receive_blocking().has_value();
        });
      });
    started.wait();
    run_async_root([&]() -> awaitable<void> {
      const asio::any_io_executor executor = co_await asio::this_coro::executor;
      std::vector<child_task> children;
      for (int i = 0; i < of_each; ++i) {
        const auto wait = [&, i]() -> awaitable<void> {
          // Not in one expression: g++ 12 loses its place between two awaits of a conditional.
          ending how{};
          if (sending)
            how = co_await ending_of_send(closing, i);
          else
            how = co_await ending_of_receive(closing);
          of_coroutines[i] = how;
        };
        children.emplace_back(executor, wait);
      }
      co_await yield_to_loop();
      for (const long id : ids) CHECK(comes_true([&] { return thread_sleeps(id); }));
      closing.close();
      for (const child_task& child : children) co_await child.join();
    });
    for (std::thread& thread : threads) thread.join();
    CHECK(of_threads == std::vector<ending>(of_each, ending::closed));
    CHECK(of_coroutines == std::vector<ending>(of_each, ending::closed));
    CHECK(closing.is_closed());
    // What was waiting to be sent was not; what had been sent is still there.
    CHECK(closing.size() == (sending ? 1 : 0));
  }
}

TEST_CASE("a closed channel can be drained; then it is empty; nothing goes in any more") {
  int_channel drained(4);
  REQUIRE(drained.send_blocking(1));
  REQUIRE(drained.send_blocking(2));
  drained.close();
  drained.close();
  int item = 3;
  CHECK_FALSE(drained.try_send(item));
  CHECK(item == 3);
  CHECK_FALSE(drained.send_blocking(3));
  run_async_root([&]() -> awaitable<void> {
    const ending sent = co_await ending_of_send(drained, 3);
    CHECK(sent == ending::closed);
    const std::optional<int> first = co_await drained.receive();
    CHECK(first == 1);
  });
  CHECK(drained.receive_blocking() == 2);
  CHECK(drained.receive_blocking() == std::nullopt);
  CHECK(drained.try_receive() == std::nullopt);
}

TEST_CASE("capacity 0 is a rendezvous: a send is done when its item has been received") {
  int_channel rendezvous(0);
  int item = 1;
  CHECK_FALSE(rendezvous.try_send(item));
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    const auto produce = [&]() -> awaitable<void> { co_await rendezvous.send(5); };
    const child_task producer(executor, produce);
    co_await yield_to_loop();
    co_await yield_to_loop();
    CHECK_FALSE(producer.done());
    CHECK(rendezvous.try_receive() == 5);
    co_await producer.join();
  });
}

TEST_CASE("what cannot be copied goes through, and what was never received goes with the channel") {
  const auto counted = std::make_shared<int>(0);
  {
    channel<std::shared_ptr<int>> pointers(3);
    CHECK(pointers.send_blocking(counted));
    CHECK(pointers.send_blocking(counted));
    CHECK(counted.use_count() == 3);
    CHECK(pointers.receive_blocking().value() == counted);
    CHECK(counted.use_count() == 2);
  }
  CHECK(counted.use_count() == 1);
  channel<std::unique_ptr<int>> unique(1);
  auto one = std::make_unique<int>(1);
  auto two = std::make_unique<int>(2);
  CHECK(unique.try_send(one));
  CHECK_FALSE(one);
  CHECK_FALSE(unique.try_send(two));
  CHECK(*two == 2);
  run_async_root([&]() -> awaitable<void> {
    const std::optional<std::unique_ptr<int>> item = co_await unique.receive();
    CHECK(**item == 1);
  });
}

TEST_CASE(
    "never_resume_wrong_thread: both ends resume on their own executors, whoever wakes them") {
  int_channel there(0);
  int_channel back(0);
  loop_thread loop;
  asio::thread_pool pool(1);
  std::latch ended(2);
  long loop_id = 0;
  asio::post(loop.executor(), [&] { loop_id = kernel_thread_id(); });
  asio::co_spawn(
      loop.executor(),
      [&]() -> awaitable<void> {
        for (int i = 0; i < 200; ++i) {
          co_await there.send(i);
          CHECK(kernel_thread_id() == loop_id);
          const std::optional<int> item = co_await back.receive();
          CHECK(item == i);
          CHECK(kernel_thread_id() == loop_id);
        }
        ended.count_down();
      },
      asio::detached);
  long pool_id = 0;
  asio::post(pool, [&] { pool_id = kernel_thread_id(); });
  asio::co_spawn(
      pool,
      [&]() -> awaitable<void> {
        for (int i = 0; i < 200; ++i) {
          const std::optional<int> item = co_await there.receive();
          CHECK(kernel_thread_id() == pool_id);
          co_await back.send(*item);
          CHECK(kernel_thread_id() == pool_id);
        }
        ended.count_down();
      },
      asio::detached);
  ended.wait();
  pool.join();
}

TEST_CASE("a coroutine that never has to wait lets its loop turn") {
  int_channel roomy(1);
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    bool turned = false;
    asio::post(executor, [&] { turned = true; });
    int rounds = 0;
    while (!turned && rounds < 1'000'000) {
      co_await roomy.send(1);
      co_await roomy.receive();
      ++rounds;
    }
    CHECK(turned);
    CHECK(rounds < 1000);
  });
}

TEST_CASE("blocking calls are refused on a thread that runs a loop, before they do anything") {
  int_channel one(1);
  run_async_root([&]() -> awaitable<void> {
    CHECK_THROWS_AS(one.send_blocking(1), misuse_error);
    CHECK(one.size() == 0);
    int item = 2;
    CHECK(one.try_send(item));
    try {
      one.receive_blocking();
      FAIL("not refused");
    } catch (const misuse_error& e) {
      CHECK(e.code() == errc::running_loop);
      CHECK(std::string(e.where().file_name()).ends_with("channel_test.cpp"));
    }
    CHECK(one.size() == 1);
    co_return;
  });
}

TEST_CASE(
    "a blocking call gives up after its timeout and when it is asked to stop; nothing is sent or "
    "received") {
  int_channel full(1);
  CHECK(full.send_blocking(1));
  CHECK(ending_of([&] { return full.send_blocking(2, {.timeout = 1ms}); }) == ending::timed_out);
  CHECK(full.receive_blocking({.timeout = 1ms}) == 1);
  CHECK(ending_of([&] { return full.receive_blocking({.timeout = 1ms}).has_value(); }) ==
        ending::timed_out);

  std::stop_source stop;
  std::thread stopper;
  const long self = kernel_thread_id();
  stopper = std::thread([&] {
    CHECK(comes_true([&] { return thread_sleeps(self); }));
    stop.request_stop();
  });
  CHECK(ending_of([&] { return full.receive_blocking({.stop = stop.get_token()}).has_value(); }) ==
        ending::cancelled);
  stopper.join();
  CHECK(full.size() == 0);
  // Asked already: what can be done at once is done all the same.
  CHECK(full.send_blocking(3, {.stop = stop.get_token()}));
  CHECK(ending_of([&] { return full.send_blocking(4, {.stop = stop.get_token()}); }) ==
        ending::cancelled);
  CHECK(full.receive_blocking() == 3);
}

TEST_CASE("a cancelled send has not sent, a cancelled receive has not received") {
  int_channel quiet(1);
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                            asio::cancellation_type::total}) {
      ending received = ending::done;
      const auto receive = [&]() -> awaitable<void> {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        received = co_await ending_of_receive(quiet);
      };
      const child_task receiver(executor, receive);
      co_await yield_to_loop();
      receiver.cancel(type);
      co_await receiver.join();
      CHECK(received == ending::cancelled);

      int item = 1;
      CHECK(quiet.try_send(item));
      ending sent = ending::done;
      const auto send = [&]() -> awaitable<void> {
        co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
        sent = co_await ending_of_send(quiet, 2);
      };
      const child_task sender(executor, send);
      co_await yield_to_loop();
      sender.cancel(type);
      co_await sender.join();
      CHECK(sent == ending::cancelled);
      CHECK(quiet.try_receive() == 1);
      CHECK(quiet.try_receive() == std::nullopt);
    }
  });
}

TEST_CASE("no item is lost or doubled, however cancellation meets a hand-over") {
  int_channel contended(0);
  constexpr int count = 400;
  std::vector<int> received;
  std::vector<int> sent;
  std::thread other([&] {
    for (int i = 0; i < count; ++i) {
      // Now and then it gives up itself.
      if (ending_of([&] {
            return contended.send_blocking(i, {.timeout = (i % 3 == 0 ? 20us : 10s)});
          }) == ending::done)
        sent.push_back(i);
    }
    contended.close();
  });
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::minstd_rand random(1);
    bool closed = false;
    while (!closed) {
      const auto receive = [&]() -> awaitable<void> {
        try {
          const std::optional<int> item = co_await contended.receive();
          if (item)
            received.push_back(*item);
          else
            closed = true;
        } catch (const boost::system::system_error& e) {
          CHECK(is_cancellation(e));
        }
      };
      const child_task receiver(executor, receive);
      for (auto turns = random() % 8; turns > 0; --turns) co_await yield_to_loop();
      receiver.cancel();
      co_await receiver.join();
    }
  });
  other.join();
  CHECK(received == sent);
}

TEST_CASE("pump_every_frame: a thread that waits for a channel serves its chain meanwhile") {
  int_channel from_sibling(0);
  std::thread([&] {
    const long self = kernel_thread_id();
    async_to_sync([&]() -> awaitable<void> {
      const asio::any_io_executor executor = co_await asio::this_coro::executor;
      gate waiting;
      const auto wait_here = sync_to_async(
          [&] {
            waiting.open();
            return from_sibling.receive_blocking();
          },
          thread_sensitive);
      // Needs the very thread that waits for what it will send.
      const auto sibling = [&]() -> awaitable<void> {
        const bool waits = co_await comes_true_on_loop([&] { return waiting.is_open(); });
        CHECK(waits);
        const long there = co_await sensitive_thread();
        CHECK(there == self);
        co_await from_sibling.send(7);
      };
      const child_task other(executor, sibling);
      const std::optional<int> item = co_await wait_here();
      CHECK(item == 7);
      co_await other.join();
    })();
  }).join();
}

TEST_CASE(
    "nest_depth_pool_one: a worker that waits for a channel is replaced, and counts as blocked") {
  bothworlds::worker_pool pool({.soft_limit = 1, .hard_limit = 2});
  int_channel between(0);
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    auto receive = sync_to_async([&] { return between.receive_blocking(); }, {.pool = &pool});
    auto send = sync_to_async([&] { return between.send_blocking(3); }, {.pool = &pool});
    std::optional<int> item;
    const auto receive_it = [&]() -> awaitable<void> { item = co_await receive(); };
    const child_task receiver(executor, receive_it);
    const bool blocked =
        co_await comes_true_on_loop([&] { return pool.stats().blocked_in_bridge == 1; });
    CHECK(blocked);
    const bool sent = co_await send();
    CHECK(sent);
    co_await receiver.join();
    CHECK(item == 3);
    CHECK(pool.stats().blocked_in_bridge == 0);
  });
}

TEST_CASE("cancelling what awaits a callable wakes the callable from its channel") {
  int_channel silent(0);
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    gate begun;
    auto callable = sync_to_async([&] {
      begun.open();
      silent.receive_blocking();
    });
    const auto call = [&]() -> awaitable<void> { co_await callable(); };
    const child_task waiting(executor, call);
    co_await yield_to_loop();
    begun.wait();
    waiting.cancel();
    const bool cancelled = co_await ends_cancelled(waiting);
    CHECK(cancelled);
  });
}

TEST_CASE("an item on its way to a coroutine whose loop goes is received by the next receiver") {
  const auto tracked = std::make_shared<int>(1);
  channel<std::shared_ptr<int>> surviving(0);
  for (const bool own_loop : {false, true}) {
    CAPTURE(own_loop);
    const auto receive = [&]() -> awaitable<void> {
      co_await surviving.receive();
      FAIL("the loop was gone");
    };
    std::shared_ptr<int> item = tracked;
    if (own_loop) {
      std::thread([&] {
        // The loop of this thread, on which the child stays behind.
        async_to_sync([&]() -> awaitable<void> {
          asio::co_spawn(co_await asio::this_coro::executor, receive, asio::detached);
          co_await yield_to_loop();
        })();
        CHECK(surviving.try_send(item));
      }).join();
    } else {
      asio::io_context loop(1);
      asio::co_spawn(loop, receive, asio::detached);
      loop.poll();
      CHECK(surviving.try_send(item));
    }
    CHECK(surviving.try_receive() == tracked);
    CHECK(surviving.try_receive() == std::nullopt);
  }
  CHECK(tracked.use_count() == 1);
}

TEST_CASE("a coroutine that waits when its loop goes is gone with it, and the channel forgets it") {
  int_channel unaffected(0);
  const auto frame_owns = std::make_shared<int>(1);
  {
    asio::io_context loop(1);
    const auto receive = [&unaffected, frame_owns]() -> awaitable<void> {
      const auto kept = frame_owns;
      co_await unaffected.receive();
    };
    asio::co_spawn(loop, receive, asio::detached);
    loop.poll();
  }
  CHECK(frame_owns.use_count() == 1);
  int item = 1;
  CHECK_FALSE(unaffected.try_send(item));
}

TEST_CASE("destroying a channel wakes who waits in it") {
  auto doomed = std::make_unique<int_channel>(0);
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    ending received = ending::done;
    const auto receive = [&]() -> awaitable<void> {
      received = co_await ending_of_receive(*doomed);
    };
    const child_task receiver(executor, receive);
    co_await yield_to_loop();
    doomed.reset();
    co_await receiver.join();
    CHECK(received == ending::closed);
  });
}
