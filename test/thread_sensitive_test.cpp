// SPDX-License-Identifier: BSL-1.0

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <set>
#include <stdexcept>
#include <string>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;
using bothworlds::with_thread_sensitive_context;

namespace {

struct no_default {
  explicit no_default(int v) : value(v) {}
  int value;
};

}  // namespace

TEST_CASE("the body's result of any kind, and its exception, come out of the context") {
  run_async_root([]() -> awaitable<void> {
    auto number = []() -> awaitable<int> { co_return 42; };
    const int got = co_await with_thread_sensitive_context(number);
    CHECK(got == 42);

    auto move_only = []() -> awaitable<std::unique_ptr<int>> {
      co_await yield_to_loop();
      co_return std::make_unique<int>(7);
    };
    const auto owned = co_await with_thread_sensitive_context(move_only);
    CHECK(*owned == 7);

    auto not_default_constructible = []() -> awaitable<no_default> { co_return no_default(8); };
    const no_default made = co_await with_thread_sensitive_context(not_default_constructible);
    CHECK(made.value == 8);

    auto throws = []() -> awaitable<void> {
      co_await sensitive_thread();
      throw std::out_of_range("body");
    };
    std::string what;
    try {
      co_await with_thread_sensitive_context(throws);
    } catch (const std::out_of_range& e) {
      what = e.what();
    }
    CHECK(what == "body");
  });
}

TEST_CASE("captures of the body live as long as it") {
  run_async_root([]() -> awaitable<void> {
    auto body = [text = std::string(64, 'a')]() -> awaitable<std::string> {
      co_await yield_to_loop();
      co_return text;
    };
    awaitable<std::string> pending = with_thread_sensitive_context(std::move(body));
    const std::string got = co_await std::move(pending);
    CHECK(got == std::string(64, 'a'));
  });
}

TEST_CASE("the context's thread is neither the loop's nor the one that the process shares") {
  run_async_root([]() -> awaitable<void> {
    const long loop_id = kernel_thread_id();
    const long shared = co_await sensitive_thread();
    // The body runs where it was awaited.
    auto body = [&]() -> awaitable<void> {
      CHECK(kernel_thread_id() == loop_id);
      const long own = co_await sensitive_thread();
      CHECK(own != loop_id);
      CHECK(own != shared);
      CHECK(kernel_thread_id() == loop_id);
    };
    co_await with_thread_sensitive_context(body);
    CHECK(kernel_thread_id() == loop_id);
    const long shared_again = co_await sensitive_thread();
    CHECK(shared_again == shared);
  });
}

TEST_CASE("under a sync root the root's thread serves inside a context, too") {
  const long root = kernel_thread_id();
  async_to_sync([&]() -> awaitable<void> {
    auto body = [&]() -> awaitable<void> {
      const long id = co_await sensitive_thread();
      CHECK(id == root);
      auto nested = sync_to_async([] { return async_to_sync(sensitive_thread)(); });
      const long below = co_await nested();
      CHECK(below == root);
    };
    co_await with_thread_sensitive_context(body);
  })();
}

TEST_CASE(
    "hop_keeps_lane: a call elsewhere in between does not move the lane of what is below it") {
  SUBCASE("under a sync root") {
    const long root = kernel_thread_id();
    long hop = 0, below = 0;
    async_to_sync([&]() -> awaitable<void> {
      auto elsewhere = sync_to_async([&] {
        hop = kernel_thread_id();
        below = async_to_sync(sensitive_thread)();
      });
      co_await elsewhere();
    })();
    CHECK(hop != root);
    CHECK(below == root);
  }
  SUBCASE("inside a context") {
    run_async_root([]() -> awaitable<void> {
      long hop = 0, below = 0;
      auto body = [&]() -> awaitable<void> {
        const long lane = co_await sensitive_thread();
        auto elsewhere = sync_to_async([&] {
          hop = kernel_thread_id();
          below = async_to_sync(sensitive_thread)();
        });
        co_await elsewhere();
        CHECK(hop != lane);
        CHECK(below == lane);
        const long after = co_await sensitive_thread();
        CHECK(after == lane);
      };
      co_await with_thread_sensitive_context(body);
    });
  }
  SUBCASE("without a context") {
    run_async_root([]() -> awaitable<void> {
      const long shared = co_await sensitive_thread();
      auto elsewhere = sync_to_async([] { return async_to_sync(sensitive_thread)(); });
      const long below = co_await elsewhere();
      CHECK(below == shared);
    });
  }
}

TEST_CASE("sync_in_main_then_loop: a call on the thread that its own lane is on runs right there") {
  SUBCASE("under a sync root, two levels down") {
    const long root = kernel_thread_id();
    async_to_sync([&]() -> awaitable<void> {
      auto outer = sync_to_async(
          [&] {
            CHECK(kernel_thread_id() == root);
            CHECK(async_to_sync(sensitive_thread)() == root);
            CHECK(async_to_sync(sensitive_thread)() == root);
          },
          {.thread_sensitive = true});
      co_await outer();
    })();
  }
  SUBCASE("in a loop that the lane's thread drives itself") {
    run_async_root([]() -> awaitable<void> {
      auto body = [&]() -> awaitable<void> {
        auto drives = sync_to_async(
            [] {
              const long lane = kernel_thread_id();
              return async_to_sync(sensitive_thread, {.force_new_loop = true})() == lane;
            },
            {.thread_sensitive = true});
        const bool same = co_await drives();
        CHECK(same);
      };
      co_await with_thread_sensitive_context(body);
    });
  }
}

TEST_CASE(
    "reentry_in_context: sync code in a context makes a new loop that needs the same context") {
  run_async_root([]() -> awaitable<void> {
    long lane = 0, reentered = 0;
    auto body = [&]() -> awaitable<void> {
      auto outer = sync_to_async(
          [&] {
            lane = kernel_thread_id();
            auto fresh = async_to_sync(
                [&]() -> awaitable<void> {
                  // From another thread below it as well.
                  auto hop = sync_to_async([] { return async_to_sync(sensitive_thread)(); });
                  const long through_hop = co_await hop();
                  CHECK(through_hop == lane);
                  reentered = co_await sensitive_thread();
                },
                {.force_new_loop = true});
            fresh();
          },
          {.thread_sensitive = true});
      co_await outer();
    };
    co_await with_thread_sensitive_context(body);
    CHECK(reentered != 0);
    CHECK(reentered == lane);
  });
}

TEST_CASE("no_thread_per_call: contexts one after another reuse their threads") {
  run_async_root([]() -> awaitable<void> {
    constexpr std::size_t contexts = 200;
    std::set<long> threads;
    auto body = [&]() -> awaitable<void> { threads.insert(co_await sensitive_thread()); };
    for (std::size_t i = 0; i < contexts; ++i) co_await with_thread_sensitive_context(body);
    // Some may still be on their way out when the next begins: as many as the machine keeps
    // waiting, not one for each.
    CHECK(threads.size() <= contexts / 10);
  });
}

TEST_CASE("a child that outlives its context still gets its calls run") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event context_left(executor);
    long lane = 0, late = 0;
    std::optional<child_task> child;
    auto body = [&]() -> awaitable<void> {
      auto here = co_await asio::this_coro::executor;
      lane = co_await sensitive_thread();
      child.emplace(here, [&]() -> awaitable<void> {
        co_await context_left.wait();
        late = co_await sensitive_thread();
      });
    };
    co_await with_thread_sensitive_context(body);
    context_left.set();
    bool precise_error = false;
    try {
      co_await child->join();
    } catch (const bothworlds::error& e) {
      precise_error = !e.report().empty();
    }
    CHECK((late != 0 || precise_error));
    CHECK(late != kernel_thread_id());
  });
}
