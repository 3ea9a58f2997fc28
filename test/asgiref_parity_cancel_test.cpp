// SPDX-License-Identifier: BSL-1.0
//
// What asgiref's own tests pin of cancellation through layers of sync and async code, and of what
// is left behind.

#include "support/call_tools.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::with_thread_sensitive_context;

namespace {

/// A view that shields a child from its own cancellation, catches that, and then waits for the
/// child.
struct shield_scene {
  explicit shield_scene(const asio::any_io_executor& executor)
      : child_started(executor), child_may_end(executor) {}

  awaitable<void> shielded_child() {
    child_started.set();
    co_await child_may_end.wait();
    child_executed = true;
  }

  awaitable<void> child_through_sync() {
    auto call = sync_to_async([this] { async_to_sync (&shield_scene::shielded_child)(this); },
                              thread_sensitive);
    co_await call();
  }

  awaitable<void> view() {
    auto executor = co_await asio::this_coro::executor;
    child_task child(executor,
                     [this] { return sync_child ? child_through_sync() : shielded_child(); });
    try {
      co_await child.join();
    } catch (const boost::system::system_error& e) {
      cancel_caught = is_cancellation(e);
    }
    auto state = co_await asio::this_coro::cancellation_state;
    cancel_seen = state.cancelled() != asio::cancellation_type::none;
    co_await asio::this_coro::reset_cancellation_state();
    child_may_end.set();
    co_await child.join();
    view_completed = true;
  }

  bool sync_child = false;
  loop_event child_started;
  loop_event child_may_end;
  bool cancel_caught = false;
  bool cancel_seen = false;
  bool view_completed = false;
  bool child_executed = false;
};

/// `sync_layers` pairs of a sync and an async layer above the view.
awaitable<void> through_layers(shield_scene& scene, int sync_layers) {
  if (sync_layers == 0) {
    co_await scene.view();
    co_return;
  }
  auto layer = sync_to_async(
      [&scene, sync_layers] { async_to_sync(through_layers)(std::ref(scene), sync_layers - 1); },
      thread_sensitive);
  co_await layer();
}

void cancel_a_shielding_request(int sync_layers, bool sync_child) {
  run_async_root([=]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    shield_scene scene(executor);
    scene.sync_child = sync_child;
    auto body = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      child_task request(here, [&] { return through_layers(scene, sync_layers); });
      co_await scene.child_started.wait();
      request.cancel();
      co_await request.join();
    };
    co_await with_thread_sensitive_context(body);
    CHECK(scene.cancel_caught);
    CHECK(scene.cancel_seen);
    CHECK(scene.view_completed);
    CHECK(scene.child_executed);
  });
}

/// Counts the living.
struct tracked {
  tracked() { ++living; }
  tracked(const tracked&) { ++living; }
  tracked(tracked&&) noexcept { ++living; }
  tracked& operator=(const tracked&) = default;
  ~tracked() { --living; }
  static inline std::atomic<int> living{0};
};

}  // namespace

TEST_CASE("test_inner_shield_async_middleware: the control case, without a bridge") {
  cancel_a_shielding_request(0, false);
}

TEST_CASE(
    "test_inner_shield_sync_middleware: a cancel reaches the view through a sync frame; the child "
    "is shielded") {
  cancel_a_shielding_request(1, false);
}

TEST_CASE("test_inner_shield_sync_and_async_middleware: the same through alternating layers") {
  cancel_a_shielding_request(3, false);
  cancel_a_shielding_request(5, false);
}

TEST_CASE(
    "test_inner_shield_sync_and_async_middleware_sync_task: a shielded child that is itself a "
    "crossing") {
  cancel_a_shielding_request(3, true);
}

TEST_CASE("no_leak_on_any_path: sync_to_async returns or throws") {
  REQUIRE(tracked::living.load() == 0);
  run_async_root([]() -> awaitable<void> {
    const tracked captured;
    auto callable = [captured](tracked argument, bool fails) {
      if (fails) throw argument;
      return argument;
    };
    auto call = sync_to_async(callable);
    for (bool fails : {false, true}) {
      const int before = tracked::living;
      bool thrown = false;
      try {
        const tracked result = co_await call(captured, fails);
        CHECK(tracked::living.load() == before + 1);
      } catch (const tracked&) {
        thrown = true;
      }
      CHECK(thrown == fails);
      CHECK(tracked::living.load() == before);
    }
  });
  CHECK(tracked::living.load() == 0);
}

TEST_CASE("no_leak_on_any_path: a call that is made and never awaited") {
  REQUIRE(tracked::living.load() == 0);
  {
    const tracked captured;
    auto callable = [captured](tracked argument) { return argument; };
    auto call = sync_to_async(callable);
    const int before = tracked::living;
    {
      auto dropped = call(captured);
    }
    CHECK(tracked::living.load() == before);
  }
  CHECK(tracked::living.load() == 0);
}

TEST_CASE("no_leak_on_any_path: sync_to_async is cancelled while queued") {
  REQUIRE(tracked::living.load() == 0);
  bothworlds::worker_pool pool(bothworlds::worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate release;
    auto occupy = sync_to_async([&] { release.wait(); }, {.pool = &pool});
    child_task occupant(executor, [&] { return occupy(); });
    co_await yield_to_loop();

    const tracked captured;
    auto callable = [captured](tracked) {};
    auto call = sync_to_async(callable, {.pool = &pool});
    child_task queued(executor, [&] { return call(captured); });
    co_await yield_to_loop();
    queued.cancel();
    bool cancelled = false;
    try {
      co_await queued.join();
    } catch (const boost::system::system_error& e) {
      cancelled = is_cancellation(e);
    }
    CHECK(cancelled);
    release.open();
    co_await occupant.join();
  });
  CHECK(comes_true([] { return tracked::living == 0; }));
}

TEST_CASE("no_leak_on_any_path: sync_to_async is abandoned") {
  REQUIRE(tracked::living.load() == 0);
  for (bool throws : {false, true}) {
    gate release;
    run_async_root([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      gate running;
      const tracked captured;
      auto callable = [captured, throws, &running, &release](tracked argument) {
        running.open();
        release.wait();
        if (throws) throw argument;
        return argument;
      };
      auto call = sync_to_async(callable, {.on_cancel = cancel_policy::abandon});
      child_task task(executor, [&]() -> awaitable<void> { co_await call(captured); });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      bool cancelled = false;
      try {
        co_await task.join();
      } catch (const boost::system::system_error& e) {
        cancelled = is_cancellation(e);
      }
      CHECK(cancelled);
    });
    release.open();
    CHECK(comes_true([] { return tracked::living == 0; }));
  }
}

TEST_CASE("no_leak_on_any_path: async_to_sync returns, throws or times out") {
  REQUIRE(tracked::living.load() == 0);
  {
    const tracked captured;
    enum class way { returns, throws, times_out };
    auto coroutine = [captured](tracked argument, way out) -> awaitable<tracked> {
      auto executor = co_await asio::this_coro::executor;
      if (out == way::throws) throw argument;
      if (out == way::times_out) {
        loop_event never(executor);
        co_await never.wait();
      }
      co_return argument;
    };
    const int before = tracked::living;
    {
      const tracked result = async_to_sync(coroutine)(captured, way::returns);
    }
    CHECK(tracked::living.load() == before);
    CHECK_THROWS_AS(async_to_sync(coroutine)(captured, way::throws), tracked);
    CHECK(tracked::living.load() == before);
    CHECK_THROWS(async_to_sync(coroutine, {.timeout = std::chrono::milliseconds(5)})(
        captured, way::times_out));
    CHECK(tracked::living.load() == before);
  }
  CHECK(tracked::living.load() == 0);
}

TEST_CASE(
    "perfect_forwarding: move-only, by-value and referred-to arguments cross both bridges "
    "unharmed") {
  struct copies {
    explicit copies(int& made) : made_(&made) {}
    copies(const copies& other) : made_(other.made_) { ++*made_; }
    copies(copies&&) = default;
    int* made_;
  };
  int from_lvalue = 0, from_rvalue = 0;

  SUBCASE("sync_to_async") {
    run_async_root([&]() -> awaitable<void> {
      int counter = 1;
      auto call = sync_to_async(
          [](std::unique_ptr<int> owned, std::string text, int& counted, copies, copies) {
            counted += *owned;
            return text + "!";
          });
      auto owned = std::make_unique<int>(41);
      std::string text(100, 'x');
      copies lvalue(from_lvalue);
      copies rvalue(from_rvalue);
      const std::string got =
          co_await call(std::move(owned), text, std::ref(counter), lvalue, std::move(rvalue));
      CHECK(got == std::string(100, 'x') + "!");
      CHECK(text == std::string(100, 'x'));
      CHECK(counter == 42);
    });
  }
  SUBCASE("async_to_sync") {
    int counter = 1;
    auto call = async_to_sync([](std::unique_ptr<int> owned, std::string text, int& counted, copies,
                                 copies) -> awaitable<std::string> {
      co_await yield_to_loop();
      counted += *owned;
      co_return text + "!";
    });
    std::string text(100, 'x');
    copies lvalue(from_lvalue);
    copies rvalue(from_rvalue);
    CHECK(call(std::make_unique<int>(41), text, std::ref(counter), lvalue, std::move(rvalue)) ==
          std::string(100, 'x') + "!");
    CHECK(text == std::string(100, 'x'));
    CHECK(counter == 42);
  }
  CHECK(from_lvalue == 1);
  CHECK(from_rvalue == 0);
}
