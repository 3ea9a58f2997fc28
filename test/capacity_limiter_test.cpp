// SPDX-License-Identifier: BSL-1.0
//
// capacity_limiter: who may run, who waits, and who gets the token next.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/only_connection.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

#include <condition_variable>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <malloc.h>

using namespace bothworlds::testing;
using bothworlds::async_offload;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::capacity_limiter;
using bothworlds::errc;
using bothworlds::no_limit;
using bothworlds::on_full;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::with_thread_sensitive_context;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

namespace {

/// A callable that runs until it is told to end.
struct held_open {
  gate running, released;
  void operator()() {
    running.open();
    released.wait();
  }
};

/// A call that holds a token until release().
class token_holder {
public:
  token_holder(const asio::any_io_executor& loop, capacity_limiter& limiter,
               const char* name = nullptr)
      : call_(sync_to_async(std::ref(body_), {.limiter = &limiter, .name = name})),
        task_(loop, [this] { return call_(); }) {}

  awaitable<void> wait_until_running() {
    co_await yield_to_loop();
    body_.running.wait();
  }
  awaitable<void> release() {
    body_.released.open();
    co_await task_.join();
  }

private:
  held_open body_;
  decltype(sync_to_async(std::declval<std::reference_wrapper<held_open>>())) call_;
  child_task task_;
};

/// `levels` pairs of a blocking callable and a coroutine, one inside the other.
struct nest {
  sync_options options;
  capacity_limiter* limiter = nullptr;
  std::size_t most_borrowed = 0;

  awaitable<int> async_level(int levels) {
    if (levels == 0) co_return 0;
    auto call = sync_to_async(&nest::sync_level, options);
    const int below = co_await call(this, levels);
    co_return below + 1;
  }
  int sync_level(int levels) {
    most_borrowed = std::max(most_borrowed, limiter->stats().borrowed);
    return async_to_sync(&nest::async_level)(this, levels - 1);
  }
};

}  // namespace

TEST_CASE("as many calls run at once as there are tokens, and all of them run") {
  capacity_limiter three(3);
  worker_pool pool(worker_pool_options{.soft_limit = 8});
  in_flight inside;
  std::atomic<int> ran{0};
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate release;
    auto call = sync_to_async(
        [&] {
          in_flight::visit here(inside);
          ++ran;
          release.wait();
        },
        {.pool = &pool, .limiter = &three});
    std::vector<child_task> calls;
    for (int i = 0; i < 30; ++i) calls.emplace_back(executor, [&] { return call(); });
    const bool full = co_await comes_true_on_loop([&] { return inside.now() == 3; });
    CHECK(full);
    const auto stats = three.stats();
    CHECK(stats.limit == 3);
    CHECK(stats.borrowed == 3);
    CHECK(stats.queued == 27);
    // The loop has turned, and those that wait have neither a worker nor a place in the pool's
    // queue.
    CHECK(pool.stats().threads == 3);
    CHECK(pool.stats().queued == 0);
    release.open();
    for (auto& one : calls) co_await one.join();
  });
  CHECK(inside.max() == 3);
  CHECK(ran == 30);
  CHECK(three.stats().borrowed == 0);
  CHECK(three.stats().queued == 0);
  CHECK(three.stats().oldest_queued.count() == 0);
}

TEST_CASE("tokens are given in the order of awaiting") {
  capacity_limiter one(1);
  std::vector<int> order;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    token_holder first(executor, one);
    co_await first.wait_until_running();
    auto call = sync_to_async([&](int number) { order.push_back(number); }, {.limiter = &one});
    std::vector<child_task> calls;
    for (int i = 0; i < 50; ++i) calls.emplace_back(executor, [&, i] { return call(i); });
    co_await yield_to_loop();
    CHECK(one.stats().queued == 50);
    co_await first.release();
    for (auto& each : calls) co_await each.join();
  });
  std::vector<int> expected(50);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(order == expected);
}

TEST_CASE(
    "stats: each borrower by name and place, the number of calls that wait, and the age of the "
    "oldest") {
  capacity_limiter two(2);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    token_holder named(executor, two, "the first");
    co_await named.wait_until_running();
    token_holder unnamed(executor, two);
    co_await unnamed.wait_until_running();
    auto call = sync_to_async([] {}, {.limiter = &two});
    child_task queued(executor, [&] { return call(); });
    const bool aged = co_await comes_true_on_loop([&] {
      return two.stats().oldest_queued.count() >= 1 &&
             two.stats().borrowers.at(1).held_for.count() >= 1;
    });
    CHECK(aged);
    const auto stats = two.stats();
    CHECK(stats.queued == 1);
    REQUIRE(stats.borrowers.size() == 2);
    CHECK(stats.borrowers[0].name == "the first");
    const std::string place = stats.borrowers[1].name;
    CHECK(place.find("capacity_limiter_test.cpp:") != std::string::npos);
    CHECK(stats.borrowers[1].where.line() != 0);
    CHECK(stats.borrowers[0].held_for >= stats.borrowers[1].held_for);
    co_await named.release();
    co_await unnamed.release();
    co_await queued.join();
    CHECK(two.stats().borrowers.empty());
  });
}

TEST_CASE("abandoned_holds_token: with a limit of 4 and 80 abandoned calls, at most 4 run") {
  capacity_limiter four(4);
  worker_pool pool(worker_pool_options{.soft_limit = 80});
  in_flight inside;
  gate release;
  std::atomic<int> ran{0};
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto call = sync_to_async(
        [&] {
          in_flight::visit here(inside);
          ++ran;
          release.wait();
        },
        {.pool = &pool, .limiter = &four, .on_cancel = cancel_policy::abandon});
    for (int round = 0; round < 20; ++round) {
      std::vector<child_task> calls;
      for (int i = 0; i < 4; ++i) calls.emplace_back(executor, [&] { return call(); });
      if (round == 0) {
        const bool started = co_await comes_true_on_loop([&] { return inside.now() == 4; });
        CHECK(started);
      } else {
        co_await yield_to_loop();
      }
      for (auto& one : calls) one.cancel();
      for (auto& one : calls) {
        const bool cancelled = co_await ends_cancelled(one);
        CHECK(cancelled);
      }
      // Nobody awaits them any more, but they run.
      CHECK(four.stats().borrowed == 4);
      CHECK(four.stats().queued == 0);
    }
    CHECK(pool.stats().threads == 4);
    release.open();
    const bool given_back = co_await comes_true_on_loop([&] { return four.stats().borrowed == 0; });
    CHECK(given_back);
    co_await call();
  });
  CHECK(inside.max() == 4);
  CHECK(ran == 5);
}

TEST_CASE("a call that is cancelled while it runs keeps its token until its callable has ended") {
  capacity_limiter one(1);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    held_open body;
    auto hold = sync_to_async(std::ref(body), {.limiter = &one});
    auto call = sync_to_async([] {}, {.limiter = &one});
    child_task holder(executor, [&] { return hold(); });
    co_await yield_to_loop();
    body.running.wait();
    child_task next(executor, [&] { return call(); });
    co_await yield_to_loop();
    holder.cancel();
    co_await yield_to_loop();
    CHECK(one.stats().borrowed == 1);
    CHECK(one.stats().queued == 1);
    body.released.open();
    co_await holder.join();
    co_await next.join();
  });
}

TEST_CASE(
    "a call that is cancelled while it waits leaves the queue, never runs, and costs those behind "
    "it nothing") {
  capacity_limiter one(1);
  std::vector<int> ran;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    token_holder first(executor, one);
    co_await first.wait_until_running();
    auto call = sync_to_async([&](int number) { ran.push_back(number); }, {.limiter = &one});
    std::vector<child_task> calls;
    for (int i = 0; i < 2000; ++i) calls.emplace_back(executor, [&, i] { return call(i); });
    co_await yield_to_loop();
    CHECK(one.stats().queued == 2000);
    // From the middle, from both ends.
    for (std::size_t i = 0; i < calls.size(); ++i)
      if (i % 500 != 7) calls[i].cancel();
    int cancelled = 0;
    for (std::size_t i = 0; i < calls.size(); ++i)
      if (i % 500 != 7) {
        const bool ended = co_await ends_cancelled(calls[i]);
        cancelled += ended;
      }
    CHECK(cancelled == 1996);
    CHECK(one.stats().queued == 4);
    co_await first.release();
    for (std::size_t i = 7; i < calls.size(); i += 500) co_await calls[i].join();
  });
  CHECK(ran == std::vector<int>{7, 507, 1007, 1507});
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE("resize: a higher limit lets calls go on at once, a lower one takes nothing away") {
  capacity_limiter limiter(0);
  in_flight inside;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    worker_pool pool(worker_pool_options{.soft_limit = 16});
    std::vector<std::unique_ptr<held_open>> bodies;
    for (int i = 0; i < 10; ++i) bodies.push_back(std::make_unique<held_open>());
    auto call = sync_to_async(
        [&](held_open* body) {
          in_flight::visit here(inside);
          (*body)();
        },
        {.pool = &pool, .limiter = &limiter});
    std::vector<child_task> calls;
    for (auto& body : bodies) calls.emplace_back(executor, [&, b = body.get()] { return call(b); });
    co_await yield_to_loop();
    CHECK(limiter.stats().queued == 10);  // with no token at all
    CHECK(limiter.stats().borrowed == 0);

    limiter.resize(4);
    const bool four = co_await comes_true_on_loop([&] { return inside.now() == 4; });
    CHECK(four);
    CHECK(limiter.stats().queued == 6);

    limiter.resize(2);
    CHECK(limiter.stats().borrowed == 4);
    bodies[0]->released.open();
    bodies[1]->released.open();
    co_await calls[0].join();
    co_await calls[1].join();
    CHECK(limiter.stats().borrowed == 2);
    CHECK(limiter.stats().queued == 6);  // two are still too many for a third
    bodies[2]->released.open();
    co_await calls[2].join();
    CHECK(limiter.stats().borrowed == 2);
    CHECK(limiter.stats().queued == 5);

    limiter.resize(no_limit);
    const bool all = co_await comes_true_on_loop([&] { return inside.now() == 7; });
    CHECK(all);
    CHECK(limiter.stats().limit == no_limit);
    for (auto& body : bodies) body->released.open();
    for (auto& each : calls) co_await each.join();
  });
  CHECK(inside.max() == 7);
  CHECK(limiter.stats().borrowed == 0);
}

TEST_CASE(
    "nest_depth_pool_one: any depth completes with one token and one worker, from either root") {
  capacity_limiter one(1);
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  for (bool sensitive : {false, true}) {
    sync_options options{.thread_sensitive = sensitive, .limiter = &one};
    if (!sensitive) options.pool = &pool;
    for (int levels : {1, 2, 8, 64}) {
      nest layers{options, &one};
      CHECK(async_to_sync(&nest::async_level)(&layers, levels) == levels);
      int depth = 0;
      run_async_root([&]() -> awaitable<void> { depth = co_await layers.async_level(levels); });
      CHECK(depth == levels);
      CHECK(layers.most_borrowed == 1);
    }
  }
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE("nest_depth_pool_one: several deep chains at once share the one token") {
  capacity_limiter one(1);
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    nest layers{{.pool = &pool, .limiter = &one}, &one};
    int total = 0;
    std::vector<child_task> chains;
    for (int i = 0; i < 8; ++i)
      chains.emplace_back(executor, [&]() -> awaitable<void> {
        const int depth = co_await layers.async_level(8);
        total += depth;
      });
    for (auto& chain : chains) co_await chain.join();
    CHECK(total == 64);
    CHECK(layers.most_borrowed == 1);
  });
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE("a chain that holds tokens of two limiters takes a second one of neither") {
  capacity_limiter red(1), blue(1);
  auto innermost = sync_to_async([&] { return red.stats().borrowed + blue.stats().borrowed; },
                                 {.limiter = &red});
  auto below =
      sync_to_async([&] { return async_to_sync(std::ref(innermost))(); }, {.limiter = &blue});
  auto outer = sync_to_async([&] { return async_to_sync(std::ref(below))(); }, {.limiter = &red});
  CHECK(async_to_sync(std::ref(outer))() == 2);
  auto in_a_context = sync_to_async(
      [&] {
        auto body = [&] { return innermost(); };
        auto scope = [&]() -> awaitable<std::size_t> {
          co_return co_await with_thread_sensitive_context(body);
        };
        return async_to_sync(std::ref(scope))();
      },
      {.limiter = &red});
  CHECK(async_to_sync(std::ref(in_a_context))() == 1);
  CHECK(red.stats().borrowed + blue.stats().borrowed == 0);
}

TEST_CASE("a task that outlives the call which held the token takes one of its own") {
  capacity_limiter one(1);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event go_on(executor);
    std::optional<child_task> late;
    bool ran = false;
    auto call = sync_to_async([&] { ran = true; }, {.limiter = &one});
    auto spawn_and_leave = [&]() -> awaitable<void> {
      auto inner = co_await asio::this_coro::executor;
      late.emplace(inner, [&]() -> awaitable<void> {
        co_await go_on.wait();
        co_await call();
      });
    };
    auto leaves_a_task =
        sync_to_async([&] { async_to_sync(std::ref(spawn_and_leave))(); }, {.limiter = &one});
    co_await leaves_a_task();
    CHECK(one.stats().borrowed == 0);
    token_holder other(executor, one);
    co_await other.wait_until_running();
    go_on.set();
    const bool waits = co_await comes_true_on_loop([&] { return one.stats().queued == 1; });
    CHECK(waits);
    CHECK_FALSE(ran);
    co_await other.release();
    co_await late->join();
    CHECK(ran);
  });
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE(
    "nest_depth_pool_one: a coroutine spawned below the call that holds the token shares it") {
  capacity_limiter one(1);
  int ran = 0;
  async_to_sync([&]() -> awaitable<void> {
    auto call = sync_to_async([&] { ++ran; }, {.limiter = &one});
    auto spawns = [&]() -> awaitable<void> {
      auto child = [&]() -> awaitable<void> { co_await call(); };
      co_await bothworlds::spawn(co_await asio::this_coro::executor, std::ref(child),
                                 asio::use_awaitable);
    };
    auto holds = sync_to_async([&] { async_to_sync(std::ref(spawns))(); }, {.limiter = &one});
    co_await holds();
  })();
  CHECK(ran == 1);
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE("a call that joined its chain's token keeps it after the call above has ended") {
  capacity_limiter one(1);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    held_open body;
    std::optional<child_task> late;
    auto hold = sync_to_async(std::ref(body), {.limiter = &one});
    auto spawn_and_leave = [&]() -> awaitable<void> {
      auto inner = co_await asio::this_coro::executor;
      late.emplace(inner, [&] { return hold(); });
      co_await yield_to_loop();
    };
    auto outer =
        sync_to_async([&] { async_to_sync(std::ref(spawn_and_leave))(); }, {.limiter = &one});
    co_await outer();
    body.running.wait();
    CHECK(one.stats().borrowed == 1);
    auto call = sync_to_async([] {}, {.limiter = &one});
    child_task other(executor, [&] { return call(); });
    co_await yield_to_loop();
    CHECK(one.stats().queued == 1);
    body.released.open();
    co_await late->join();
    co_await other.join();
  });
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE(
    "teardown_behind_acquirers: a release under a limiter of its own gets through, however many "
    "wait for it") {
  capacity_limiter acquiring(2), releasing(1);
  worker_pool pool(worker_pool_options{.soft_limit = 2, .hard_limit = 16});
  only_connection only_one;
  int served = 0;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto request = [&]() -> awaitable<void> {
      auto acquire =
          sync_to_async(&only_connection::acquire, {.pool = &pool, .limiter = &acquiring});
      auto release =
          sync_to_async(&only_connection::release, {.pool = &pool, .limiter = &releasing});
      co_await acquire(&only_one);
      co_await yield_to_loop();
      ++served;
      co_await release(&only_one);
    };
    std::vector<child_task> requests;
    for (int i = 0; i < 16; ++i) requests.emplace_back(executor, request);
    for (auto& one : requests) co_await one.join();
  });
  CHECK(served == 16);
}

TEST_CASE(
    "teardown_behind_acquirers: a release below the call that holds the token does not queue "
    "behind the others") {
  capacity_limiter one(1);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event others_wait(executor);
    bool released = false;
    auto release = sync_to_async([&] { released = true; }, {.limiter = &one});
    auto clean_up = [&]() -> awaitable<void> {
      co_await others_wait.wait();
      co_await release();
    };
    auto use = sync_to_async([&] { async_to_sync(std::ref(clean_up))(); }, {.limiter = &one});
    auto acquire = sync_to_async([&] { CHECK(released); }, {.limiter = &one});
    child_task user(executor, [&] { return use(); });
    co_await yield_to_loop();
    std::vector<child_task> others;
    for (int i = 0; i < 8; ++i) others.emplace_back(executor, [&] { return acquire(); });
    co_await yield_to_loop();
    CHECK(one.stats().queued == 8);
    others_wait.set();
    co_await user.join();
    for (auto& other : others) co_await other.join();
  });
}

TEST_CASE(
    "a limiter counts calls of every kind: on pools, thread-sensitive, on executors, offloaded") {
  capacity_limiter one(1);
  in_flight inside;
  asio::thread_pool threads(2);
  const asio::any_io_executor on_threads = threads.get_executor();
  worker_pool pool;
  int offloaded = 0;
  long sensitive_on[2] = {0, 0};
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto body = [&] {
      in_flight::visit here(inside);
      std::this_thread::yield();
      return kernel_thread_id();
    };
    auto on_pool = sync_to_async(body, {.pool = &pool, .limiter = &one});
    auto on_executor = sync_to_async(body, {.executor = &on_threads, .limiter = &one});
    auto sensitive = sync_to_async(body, {.thread_sensitive = true, .limiter = &one});
    token_holder first(executor, one);
    co_await first.wait_until_running();
    std::vector<child_task> calls;
    for (int i = 0; i < 2; ++i) {
      calls.emplace_back(executor, [&]() -> awaitable<void> { co_await on_pool(); });
      calls.emplace_back(executor, [&]() -> awaitable<void> { co_await on_executor(); });
      calls.emplace_back(executor,
                         [&, i]() -> awaitable<void> { sensitive_on[i] = co_await sensitive(); });
      auto count = [&](std::exception_ptr e, long) { offloaded += !e; };
      async_offload(body, asio::bind_executor(executor, count), {.pool = &pool, .limiter = &one});
    }
    co_await yield_to_loop();
    CHECK(one.stats().queued == 8);
    co_await first.release();
    for (auto& each : calls) co_await each.join();
  });
  CHECK(offloaded == 2);
  CHECK(inside.max() == 1);
  CHECK(sensitive_on[0] == sensitive_on[1]);
  CHECK(sensitive_on[0] != 0);
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE("a limiter that is destroyed goes on limiting the calls that were made with it") {
  auto limiter = std::make_unique<capacity_limiter>(1);
  in_flight inside;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    token_holder first(executor, *limiter);
    co_await first.wait_until_running();
    auto call = sync_to_async([&] { in_flight::visit here(inside); }, {.limiter = limiter.get()});
    std::vector<child_task> calls;
    for (int i = 0; i < 10; ++i) calls.emplace_back(executor, [&] { return call(); });
    co_await yield_to_loop();
    limiter.reset();
    CHECK(inside.max() == 0);
    co_await first.release();
    for (auto& each : calls) co_await each.join();
    co_await call();
  });
  CHECK(inside.max() == 1);
}

TEST_CASE(
    "a limiter that is destroyed with a limit of 0 fails the calls that wait, and those to come") {
  auto limiter = std::make_unique<capacity_limiter>(1);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    token_holder first(executor, *limiter);
    co_await first.wait_until_running();
    bool ran = false;
    auto call = sync_to_async([&] { ran = true; }, {.limiter = limiter.get()});
    std::vector<boost::system::error_code> codes(3);
    std::vector<child_task> calls;
    for (auto& code : codes)
      calls.emplace_back(executor, [&]() -> awaitable<void> { code = co_await outcome(call); });
    co_await yield_to_loop();
    limiter->resize(0);
    limiter.reset();
    for (auto& each : calls) co_await each.join();
    for (auto& code : codes) CHECK(code == errc::pool_closed);
    co_await first.release();
    const auto late = co_await outcome(call);
    CHECK(late == errc::pool_closed);
    CHECK_FALSE(ran);
  });
}

TEST_CASE("calls whose pool or executor refuses them once they have a token fail, and pass it on") {
  capacity_limiter one(1);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    SUBCASE("a pool that was shut down meanwhile") {
      worker_pool closed;
      token_holder first(executor, one);
      co_await first.wait_until_running();
      auto refused = sync_to_async([] {}, {.pool = &closed, .limiter = &one});
      auto runs = sync_to_async([] {}, {.limiter = &one});
      std::vector<boost::system::error_code> codes(100);
      std::vector<child_task> calls;
      for (auto& code : codes)
        calls.emplace_back(executor,
                           [&]() -> awaitable<void> { code = co_await outcome(refused); });
      child_task last(executor, [&] { return runs(); });
      co_await yield_to_loop();
      closed.shutdown(std::chrono::seconds(1));
      co_await first.release();
      for (auto& each : calls) co_await each.join();
      for (auto& code : codes) CHECK(code == errc::pool_closed);
      co_await last.join();
    }
    SUBCASE("a pool whose queue is full") {
      worker_pool pool(worker_pool_options{
          .soft_limit = 1, .hard_limit = 1, .queue_limit = 0, .when_full = on_full::reject});
      token_holder first(executor, one);
      co_await first.wait_until_running();
      held_open body;
      auto occupy = sync_to_async(std::ref(body), {.pool = &pool});
      auto call = sync_to_async([] {}, {.pool = &pool, .limiter = &one});
      boost::system::error_code code;
      child_task waits(executor, [&]() -> awaitable<void> { code = co_await outcome(call); });
      co_await yield_to_loop();
      child_task occupant(executor, [&] { return occupy(); });
      co_await yield_to_loop();
      body.running.wait();
      co_await first.release();
      co_await waits.join();
      CHECK(code == errc::queue_full);
      body.released.open();
      co_await occupant.join();
    }
    CHECK(one.stats().borrowed == 0);
    CHECK(one.stats().queued == 0);
  });
}

TEST_CASE("queue_limit: with caller_runs, a call that has waited for a token is queued") {
  capacity_limiter one(1);
  worker_pool pool(worker_pool_options{
      .soft_limit = 1, .hard_limit = 1, .queue_limit = 0, .when_full = on_full::caller_runs});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    token_holder first(executor, one);
    co_await first.wait_until_running();
    held_open body;
    long occupant_on = 0, ran_on = 0;
    auto occupy = sync_to_async(
        [&] {
          occupant_on = kernel_thread_id();
          body();
        },
        {.pool = &pool});
    auto call = sync_to_async(kernel_thread_id, {.pool = &pool, .limiter = &one});
    child_task waits(executor, [&]() -> awaitable<void> { ran_on = co_await call(); });
    co_await yield_to_loop();
    child_task occupant(executor, [&] { return occupy(); });
    co_await yield_to_loop();
    body.running.wait();
    co_await first.release();
    const bool queued = co_await comes_true_on_loop([&] { return pool.stats().queued == 1; });
    CHECK(queued);
    body.released.open();
    co_await occupant.join();
    co_await waits.join();
    CHECK(ran_on == occupant_on);
  });
}

TEST_CASE(
    "a loop that is destroyed takes its calls out of the queue, and their token goes to others") {
  capacity_limiter one(1);
  bool ran = false;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    token_holder first(executor, one);
    co_await first.wait_until_running();
    auto call = sync_to_async([&] { ran = true; }, {.limiter = &one});
    {
      asio::io_context doomed;
      for (int i = 0; i < 3; ++i) asio::co_spawn(doomed, call(), asio::detached);
      doomed.poll();
      CHECK(one.stats().queued == 3);
    }
    CHECK(one.stats().queued == 0);
    co_await first.release();
    CHECK_FALSE(ran);
    co_await call();
    CHECK(ran);
  });
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE(
    "from many loops, with calls cancelled at any moment, the limit holds and every token comes "
    "back") {
  capacity_limiter limiter(3);
  worker_pool pool(worker_pool_options{.soft_limit = 8});
  in_flight inside;
  std::atomic<int> ran{0}, ended{0}, cancelled{0};
  std::vector<std::thread> loops;
  for (unsigned number = 0; number < 4; ++number)
    loops.emplace_back([&, number] {
      run_async_root([&]() -> awaitable<void> {
        auto executor = co_await asio::this_coro::executor;
        std::minstd_rand random(number + 1);
        auto call = sync_to_async(
            [&] {
              in_flight::visit here(inside);
              ++ran;
            },
            {.pool = &pool, .limiter = &limiter});
        for (int round = 0; round < 50; ++round) {
          std::vector<child_task> calls;
          for (int i = 0; i < 10; ++i) calls.emplace_back(executor, [&] { return call(); });
          if (random() % 2 != 0) co_await yield_to_loop();
          for (auto& one : calls)
            if (random() % 3 == 0) one.cancel();
          for (auto& one : calls) {
            const bool was_cancelled = co_await ends_cancelled(one);
            ++(was_cancelled ? cancelled : ended);
          }
          if (number == 0) limiter.resize(1 + random() % 3);
        }
      });
    });
  for (auto& loop : loops) loop.join();
  CHECK(inside.max() <= 3);
  CHECK(ended + cancelled == 2000);
  CHECK(ran == ended);
  CHECK(limiter.stats().borrowed == 0);
  CHECK(limiter.stats().queued == 0);
}

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool counts_bytes = false;
#elif defined(__has_feature)
constexpr bool counts_bytes = !__has_feature(thread_sanitizer) && !__has_feature(address_sanitizer);
#else
constexpr bool counts_bytes = true;
#endif

/// A sanitizer keeps books of its own about each block: there the calls are fewer and their bytes
/// are not counted.
constexpr int very_many = counts_bytes ? 1'000'000 : 20'000;

/// Signed, for differences: what earlier test cases have left for reuse may go meanwhile.
std::int64_t bytes_in_use() {
  const auto use = ::mallinfo2();
  return static_cast<std::int64_t>(use.uordblks + use.hblkhd);
}

/// Bytes that each of very_many calls takes while it waits behind one that is held open. All of
/// them run in the end.
double bytes_for_each_queued_call(const sync_options& options, std::size_t& queued) {
  asio::io_context loop;
  held_open body;
  async_offload(std::ref(body), asio::bind_executor(loop, [](std::exception_ptr) {}), options);
  body.running.wait();
  const auto before = bytes_in_use();
  int ran = 0, ended = 0;
  const auto count = [&ended](std::exception_ptr e) { ended += !e; };
  for (int i = 0; i < very_many; ++i)
    async_offload([&ran] { ++ran; }, asio::bind_executor(loop, count), options);
  const auto bytes = bytes_in_use() - before;
  queued = options.limiter ? options.limiter->stats().queued : options.pool->stats().queued;
  body.released.open();
  loop.run();
  CHECK(ended == very_many);
  CHECK(ran == very_many);
  return static_cast<double>(bytes) / very_many;
}

}  // namespace

TEST_CASE(
    "a million calls that wait for a token take 1,024 bytes each at most, and all of them run") {
  capacity_limiter one(1);
  worker_pool pool(worker_pool_options{.soft_limit = 2});
  std::size_t queued = 0;
  const double bytes = bytes_for_each_queued_call({.pool = &pool, .limiter = &one}, queued);
  CHECK(queued == very_many);
  if (counts_bytes) CHECK(bytes <= 1024);
}

TEST_CASE(
    "queue_limit: a million calls that are suspended take 768 bytes each at most, and all of them "
    "run") {
  worker_pool pool(worker_pool_options{
      .soft_limit = 1, .hard_limit = 1, .queue_limit = 10, .when_full = on_full::suspend});
  std::size_t queued = 0;
  const double bytes = bytes_for_each_queued_call({.pool = &pool}, queued);
  CHECK(queued == very_many);
  if (counts_bytes) CHECK(bytes <= 768);
}

TEST_CASE("queue_limit: however many calls are refused, memory holds what is queued and no more") {
  worker_pool pool(worker_pool_options{
      .soft_limit = 1, .hard_limit = 1, .queue_limit = 1000, .when_full = on_full::reject});
  asio::io_context loop;
  held_open body;
  async_offload(std::ref(body), asio::bind_executor(loop, [](std::exception_ptr) {}),
                {.pool = &pool});
  body.running.wait();
  const auto before = bytes_in_use();
  int ended = 0, refused = 0;
  const auto count = [&](std::exception_ptr e) { ++(e ? refused : ended); };
  constexpr int rounds = very_many / 100'000 + 5;
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < 2000; ++i)
      async_offload([] {}, asio::bind_executor(loop, count), {.pool = &pool});
    loop.poll();  // delivers the refusals
    loop.restart();
  }
  const auto bytes = bytes_in_use() - before;
  CHECK(pool.stats().queued == 1000);
  CHECK(refused == rounds * 2000 - 1000);
  // The queued ones, and what the largest burst of refusals has left in the allocator's hands.
  if (counts_bytes) CHECK(bytes <= 4000 * 1024);
  body.released.open();
  loop.run();
  CHECK(ended == 1000);
}
