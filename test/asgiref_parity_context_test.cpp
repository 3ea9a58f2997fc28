// SPDX-License-Identifier: BSL-1.0
//
// What asgiref's own tests pin of Local and of context variables, said for this library.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/gather.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <latch>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::context;
using bothworlds::context_var;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::with_context;
using bothworlds::with_thread_sensitive_context;

namespace {

/// asgiref's Local: an attribute that is there or is not.
using local = context_var<std::optional<int>>;

/// A "thread critical" Local: what C++ has for it.
thread_local std::optional<int> critical;

/// Runs `body` as a coroutine that carries a context.
template <class F>
void in_coroutine(F body) {
  async_to_sync(std::move(body))();
}

/// Gets, sets and unsets `attribute`, wherever this runs.
void use_as_attribute(const local& attribute) {
  CHECK(!attribute.get().has_value());
  const auto before = attribute.set(1);
  CHECK(attribute.get() == 1);
  attribute.set(2);
  CHECK(attribute.get() == 2);
  attribute.reset(before);
  CHECK(!attribute.get().has_value());
}

}  // namespace

TEST_CASE("test_local_task: get, set, delete and missing, in a coroutine") {
  const local attribute("attribute");
  in_coroutine([&]() -> awaitable<void> {
    use_as_attribute(attribute);
    co_await yield_to_loop();
    use_as_attribute(attribute);
  });
}

TEST_CASE("test_local_thread: get, set, delete and missing, in a thread") {
  const local attribute("attribute");
  std::thread([&] { use_as_attribute(attribute); }).join();
}

TEST_CASE("test_local_thread_nested: nothing leaks into a plain thread, or out of it") {
  const local attribute("attribute");
  attribute.set(1);
  std::thread([&] {
    use_as_attribute(attribute);
    attribute.set(2);
  }).join();
  CHECK(attribute.get() == 1);
}

TEST_CASE("test_local_cycle: the place of a destroyed variable is never seen by a new one") {
  for (int round = 0; round < 100; ++round) {
    const local attribute("attribute");
    CHECK(!attribute.get().has_value());
    attribute.set(round);
    in_coroutine([&]() -> awaitable<void> {
      const local in_call("in call");
      CHECK(!in_call.get().has_value());
      in_call.set(round);
      co_return;
    });
  }
}

TEST_CASE("test_local_task_to_sync: carried into sync_to_async and back") {
  const local attribute("attribute");
  auto call = sync_to_async([&] {
    CHECK(attribute.get() == 3);
    attribute.set(4);
  });
  in_coroutine([&]() -> awaitable<void> {
    attribute.set(3);
    co_await call();
    CHECK(attribute.get() == 4);
  });
}

TEST_CASE("test_local_thread_to_async: carried into async_to_sync and back") {
  const local attribute("attribute");
  std::thread([&] {
    attribute.set(12);
    async_to_sync([&]() -> awaitable<void> {
      CHECK(attribute.get() == 12);
      attribute.set(13);
      co_return;
    })();
    CHECK(attribute.get() == 13);
  }).join();
}

TEST_CASE("test_local_task_to_sync_to_task: through both bridges and back") {
  const local attribute("attribute");
  auto call = sync_to_async([&] {
    async_to_sync([&]() -> awaitable<void> {
      co_await yield_to_loop();
      CHECK(attribute.get() == 3);
      attribute.set(4);
    })();
  });
  in_coroutine([&]() -> awaitable<void> {
    attribute.set(3);
    co_await call();
    CHECK(attribute.get() == 4);
  });
}

TEST_CASE("test_local_many_layers: four layers and back, below either root") {
  const local attribute("attribute");
  for (const bool sensitive : {false, true}) {
    const sync_options options{.thread_sensitive = sensitive};
    auto deepest = sync_to_async(
        [&] {
          CHECK(attribute.get() == 8);
          attribute.set(9);
        },
        options);
    auto inner = [&]() -> awaitable<void> {
      CHECK(attribute.get() == 8);
      co_await deepest();
    };
    auto middle = sync_to_async([&] { async_to_sync(std::ref(inner))(); }, options);
    auto outer = [&]() -> awaitable<void> {
      attribute.set(8);
      co_await middle();
      CHECK(attribute.get() == 9);
    };
    in_coroutine(std::ref(outer));
    CHECK(attribute.get() == 9);
    run_async_root([&]() -> awaitable<void> {
      auto root = sync_to_async([&] { async_to_sync(std::ref(outer))(); });
      co_await root();
    });
  }
}

TEST_CASE("test_local_critical_no_task_to_thread: a thread_local is not carried by sync_to_async") {
  auto call = sync_to_async([] { CHECK(!critical.has_value()); });
  in_coroutine([&]() -> awaitable<void> {
    critical = 1;
    co_await call();
    CHECK(critical == 1);
    critical.reset();
  });
}

TEST_CASE("test_local_critical_no_thread_to_task: nor to a loop, by async_to_sync") {
  auto call = sync_to_async([] {
    critical = 1;
    async_to_sync([]() -> awaitable<void> {
      CHECK(!critical.has_value());
      co_return;
    })();
    CHECK(critical == 1);
    critical.reset();
  });
  in_coroutine([&]() -> awaitable<void> { co_await call(); });
}

TEST_CASE("test_local_threads_and_tasks: counters of five foreign threads do not interfere") {
  const context_var<int> counter("counter", 0);
  std::atomic<int> sum{0};
  auto add = sync_to_async([&] { counter.set(counter.get() + 1); });
  auto count_to = [&](int goal) -> awaitable<void> {
    while (counter.get() < goal) {
      if (counter.get() % 2)
        co_await add();
      else
        counter.set(counter.get() + 1);
      co_await yield_to_loop();
    }
  };
  std::latch together(5);
  std::vector<std::thread> threads;
  for (int i = 1; i <= 5; ++i)
    threads.emplace_back([&, i] {
      together.arrive_and_wait();
      async_to_sync(std::ref(count_to))(10 * i);
      sum += counter.get();
    });
  for (std::thread& each : threads) each.join();
  CHECK(sum == 150);
  CHECK(counter.get() == 0);
}

TEST_CASE(
    "test_thread_critical_local_not_context_dependent_in_sync_thread: seen in all the thread "
    "runs") {
  const local attribute("attribute");
  auto set_both = sync_to_async(
      [&] {
        critical = 1;
        attribute.set(1);
      },
      thread_sensitive);
  auto on_thread = sync_to_async([] { return critical; }, thread_sensitive);
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    co_await bothworlds::spawn(executor, set_both(), asio::use_awaitable);
    const std::optional<int> seen = co_await on_thread();
    CHECK(seen == 1);
    CHECK(!attribute.get().has_value());
  })();
  CHECK(critical == 1);
  CHECK(!attribute.get().has_value());
  critical.reset();
}

TEST_CASE("test_visibility_thread_asgiref: unset in a new thread") {
  const local attribute("attribute");
  attribute.set(1);
  std::optional<int> seen;
  std::thread([&] { seen = attribute.get(); }).join();
  CHECK(!seen.has_value());
}

TEST_CASE("test_local_not_inherited_by_new_thread: only what is captured by hand comes along") {
  const local attribute("attribute");
  attribute.set(1);
  const auto here = bothworlds::context::current();
  std::optional<int> bare, captured;
  std::thread([&] {
    bare = attribute.get();
    captured = here.run([&] { return attribute.get(); });
  }).join();
  CHECK(!bare.has_value());
  CHECK(captured == 1);
}

TEST_CASE("test_visibility_task: a child inherits, and what it writes does not leak back") {
  const local attribute("attribute");
  in_coroutine([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    attribute.set(1);
    auto child = [&]() -> awaitable<void> {
      CHECK(attribute.get() == 1);
      attribute.set(2);
      co_await yield_to_loop();
      CHECK(attribute.get() == 2);
    };
    co_await bothworlds::spawn(executor, std::ref(child), asio::use_awaitable);
    CHECK(attribute.get() == 1);
  });
}

TEST_CASE("test_deletion: unset in a child is not unset in the parent") {
  const local attribute("attribute");
  const auto before = attribute.set(1);
  in_coroutine([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto child = [&]() -> awaitable<void> {
      attribute.reset(before);
      CHECK(!attribute.get().has_value());
      co_return;
    };
    co_await bothworlds::spawn(executor, std::ref(child), asio::use_awaitable);
    CHECK(attribute.get() == 1);
  });
  CHECK(attribute.get() == 1);
}

TEST_CASE("test_sync_to_async_contextvars: in and back") {
  const context_var<std::string> foo("foo");
  auto call = sync_to_async([&] {
    CHECK(foo.get() == "bar");
    foo.set("baz");
    return 42;
  });
  in_coroutine([&]() -> awaitable<void> {
    foo.set("bar");
    const int got = co_await call();
    CHECK(got == 42);
    CHECK(foo.get() == "baz");
  });
}

TEST_CASE(
    "test_sync_to_async_contextvars_with_custom_context: the context sees it, the caller does "
    "not") {
  const context_var<std::string> foo("foo");
  auto call = sync_to_async([&] {
    CHECK(foo.get() == "bar");
    foo.set("baz");
    return 42;
  });
  in_coroutine([&]() -> awaitable<void> {
    foo.set("bar");
    const auto custom = context::current();
    auto in_custom = call.with_context(custom);
    const int got = co_await in_custom();
    CHECK(got == 42);
    CHECK(foo.get() == "bar");
    CHECK(custom.get(foo) == "baz");
  });
}

TEST_CASE("test_sync_to_async_contextvars_with_custom_context_and_parallel_tasks: one at a time") {
  const context_var<std::string> foo("foo");
  auto blocking = sync_to_async([&] { foo.set(foo.get() + "1"); });
  auto coroutine = [&]() -> awaitable<void> {
    const std::string before = foo.get();
    co_await yield_to_loop();
    foo.set(before + "1");
  };
  in_coroutine([&]() -> awaitable<void> {
    const auto custom = context::current();
    auto in_custom = blocking.with_context(custom);
    co_await bothworlds::gather(in_custom(), in_custom(), with_context(custom, coroutine()),
                                with_context(custom, coroutine()));
    CHECK(foo.get().empty());
    CHECK(custom.get(foo) == "1111");
  });
}

TEST_CASE(
    "a call in a context that asks for it again does not wait for itself; who gives up leaves the "
    "line") {
  const context_var<int> depth("depth", 0);
  in_coroutine([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    const auto custom = context::current();
    loop_event inside(executor), go(executor);
    auto deeper = [&]() -> awaitable<void> {
      depth.set(depth.get() + 1);
      co_return;
    };
    auto first = [&]() -> awaitable<void> {
      co_await with_context(custom, deeper());
      inside.set();
      co_await go.wait();
      depth.set(depth.get() + 10);
    };
    child_task holds(executor, [&] { return with_context(custom, std::ref(first)); });
    co_await inside.wait();
    child_task gives_up(executor, [&] { return with_context(custom, deeper()); });
    child_task waits(executor, [&] { return with_context(custom, deeper()); });
    co_await yield_to_loop();
    gives_up.cancel();
    const bool aborted = co_await ends_cancelled(gives_up);
    CHECK(aborted);
    CHECK(custom.get(depth) == 0);
    CHECK(!waits.done());
    go.set();
    co_await waits.join();
    co_await holds.join();
    CHECK(custom.get(depth) == 12);
    CHECK(depth.get() == 0);
  });
}

TEST_CASE("test_async_to_sync_contextvars: in and back") {
  const context_var<std::string> foo("foo");
  foo.set("bar");
  const int got = async_to_sync([&]() -> awaitable<int> {
    CHECK(foo.get() == "bar");
    foo.set("baz");
    co_return 42;
  })();
  CHECK(got == 42);
  CHECK(foo.get() == "baz");
}

TEST_CASE(
    "test_async_single_thread_context_success_share_context: changes flow from call to call") {
  const context_var<int> count("count", 0);
  auto increment = [&]() -> awaitable<void> {
    count.set(count.get() + 1);
    co_return;
  };
  async_to_sync(std::ref(increment))();
  async_to_sync(std::ref(increment))();
  CHECK(count.get() == 2);
}
