// SPDX-License-Identifier: BSL-1.0

#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/ensure.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <type_traits>

using namespace bothworlds::testing;
using bothworlds::ensure_async;
using bothworlds::ensure_sync;

namespace {

std::string sync_greet(const std::string& name) { return "hello " + name; }

awaitable<std::string> async_greet(std::string name) {
  co_await yield_to_loop();
  co_return "hello " + name;
}

struct greeter {
  std::string sync_greet() { return "hello " + name; }
  awaitable<std::string> async_greet() {
    co_await yield_to_loop();
    co_return "hello " + name;
  }
  std::string name;
};

}  // namespace

TEST_CASE("ensure_async makes a blocking callable async") {
  run_async_root([]() -> awaitable<void> {
    auto greet = ensure_async(sync_greet);
    static_assert(std::is_same_v<decltype(greet("x")), awaitable<std::string>>);
    const std::string got = co_await greet("world");
    CHECK(got == "hello world");

    const long loop_id = kernel_thread_id();
    auto where = ensure_async(kernel_thread_id);
    const long ran_on = co_await where();
    CHECK(ran_on != loop_id);
  });
}

TEST_CASE("ensure_async leaves an async callable as it is") {
  run_async_root([]() -> awaitable<void> {
    static_assert(std::is_same_v<decltype(ensure_async(async_greet)), decltype(&async_greet)>);
    auto greet = ensure_async(async_greet);
    const std::string got = co_await greet("world");
    CHECK(got == "hello world");

    auto lambda = []() -> awaitable<long> { co_return kernel_thread_id(); };
    auto same = ensure_async(lambda);
    static_assert(std::is_same_v<decltype(same), decltype(lambda)>);
    const long ran_on = co_await same();
    CHECK(ran_on == kernel_thread_id());
  });
}

TEST_CASE("ensure_sync makes an async callable blocking") {
  auto greet = ensure_sync(async_greet);
  static_assert(std::is_same_v<decltype(greet("x")), std::string>);
  CHECK(greet("world") == "hello world");
}

TEST_CASE("ensure_sync leaves a blocking callable as it is") {
  static_assert(std::is_same_v<decltype(ensure_sync(sync_greet)), decltype(&sync_greet)>);
  CHECK(ensure_sync(sync_greet)("world") == "hello world");
  auto lambda = [] { return kernel_thread_id(); };
  static_assert(std::is_same_v<decltype(ensure_sync(lambda)), decltype(lambda)>);
  CHECK(ensure_sync(lambda)() == kernel_thread_id());
}

TEST_CASE("there and back again is the thing itself") {
  auto made_async = bothworlds::sync_to_async(sync_greet);
  auto made_sync = bothworlds::async_to_sync(async_greet);
  static_assert(std::is_same_v<decltype(ensure_async(made_async)), decltype(made_async)>);
  static_assert(std::is_same_v<decltype(ensure_sync(made_sync)), decltype(made_sync)>);
  CHECK(ensure_sync(made_async)("world") == "hello world");
  run_async_root([&]() -> awaitable<void> {
    auto greet = ensure_async(made_sync);
    const std::string got = co_await greet("world");
    CHECK(got == "hello world");
  });
}

TEST_CASE("member functions of either kind") {
  greeter object{"world"};
  CHECK(ensure_sync(&greeter::async_greet)(&object) == "hello world");
  CHECK(std::invoke(ensure_sync(&greeter::sync_greet), &object) == "hello world");
  run_async_root([&]() -> awaitable<void> {
    auto greet = ensure_async(&greeter::sync_greet);
    const std::string got = co_await greet(&object);
    CHECK(got == "hello world");
  });
}

TEST_CASE("the traits tell async callables from blocking ones") {
  auto blocking_lambda = [] { return 1; };
  auto async_lambda = []() -> awaitable<int> { co_return 1; };
  CHECK(bothworlds::is_async_callable_v<decltype(async_lambda)>);
  CHECK_FALSE(bothworlds::is_async_callable_v<decltype(blocking_lambda)>);
  CHECK(bothworlds::is_async_callable_v<decltype(&async_greet)>);
  CHECK(bothworlds::is_async_callable_v<decltype(&greeter::async_greet)>);
  CHECK_FALSE(bothworlds::is_async_callable_v<decltype(&greeter::sync_greet)>);
  CHECK(bothworlds::is_async_callable_v<std::function<awaitable<void>(int)>>);
  CHECK_FALSE(bothworlds::is_async_callable_v<std::function<void(int)>>);
  CHECK_FALSE(bothworlds::is_async_callable_v<int>);
}
