// SPDX-License-Identifier: BSL-1.0
//
// g++ 12 destroys some temporaries of a co_await expression twice. Each spelling here is one that
// the documentation calls safe; run under AddressSanitizer, and counted besides.

#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;

namespace {

/// Owns memory, and counts the living: a second destruction is seen with a sanitizer and without.
class counted {
public:
  counted() : memory_(new int(42)) { ++living; }
  counted(const counted& other) : memory_(new int(*other.memory_)) { ++living; }
  counted(counted&& other) noexcept : memory_(std::move(other.memory_)) { ++living; }
  counted& operator=(const counted&) = delete;
  ~counted() { --living; }

  int value() const { return memory_ ? *memory_ : 0; }

  static inline std::atomic<int> living{0};

private:
  std::unique_ptr<int> memory_;
};

/// A function object with a constructor of its own.
class with_constructor {
public:
  explicit with_constructor(const counted& held) : held_(held) {}
  int operator()() const { return held_.value(); }

private:
  counted held_;
};

/// Runs `body(held)` as a coroutine of either root and checks that what it gives is right and
/// nothing is left, or destroyed twice.
template <class Body>
void check_spelling(Body body) {
  REQUIRE(counted::living == 0);
  {
    const counted held;
    int got = 0;
    run_async_root([&]() -> awaitable<void> { got = co_await body(held); });
    CHECK(got == 42);
    CHECK(async_to_sync(std::ref(body))(std::cref(held)) == 42);
    CHECK(comes_true([] { return counted::living == 1; }));
  }
  CHECK(comes_true([] { return counted::living == 0; }));
}

}  // namespace

TEST_CASE("gcc12_safe_spellings: a lambda that captures by reference") {
  check_spelling([](const counted& held) -> awaitable<int> {
    co_return co_await sync_to_async([&held] { return held.value(); })();
  });
}

TEST_CASE("gcc12_safe_spellings: a lambda whose captures have no destructor") {
  check_spelling([](const counted& held) -> awaitable<int> {
    const counted* const address = &held;
    int minus = 0;
    co_return co_await sync_to_async([address, minus] { return address->value() - minus; })();
  });
}

TEST_CASE("gcc12_safe_spellings: a lambda that has a name") {
  check_spelling([](const counted& held) -> awaitable<int> {
    auto named = [held] { return held.value(); };
    co_return co_await sync_to_async(named)();
  });
}

TEST_CASE("gcc12_safe_spellings: a wrapper that has a name") {
  check_spelling([](const counted& held) -> awaitable<int> {
    auto named = [held] { return held.value(); };
    auto wrapper = sync_to_async(named);
    const int first = co_await wrapper();
    const int second = co_await wrapper();
    co_return (first + second) / 2;
  });
}

TEST_CASE("gcc12_safe_spellings: arguments that are passed to the call") {
  check_spelling([](const counted& held) -> awaitable<int> {
    co_return co_await sync_to_async([](const counted& given) { return given.value(); })(held);
  });
  check_spelling([](const counted& held) -> awaitable<int> {
    co_return co_await sync_to_async([](counted given) { return given.value(); })(counted(held));
  });
  check_spelling([](const counted& held) -> awaitable<int> {
    co_return co_await sync_to_async([](std::string text) {
      return static_cast<int>(text.size());
    })(std::string(static_cast<std::size_t>(held.value()), 'x'));
  });
}

TEST_CASE("gcc12_safe_spellings: a function object with a constructor") {
  check_spelling([](const counted& held) -> awaitable<int> {
    co_return co_await sync_to_async(with_constructor(held))();
  });
}

TEST_CASE("gcc12_safe_spellings: a named std::function, bound or moved") {
  check_spelling([](const counted& held) -> awaitable<int> {
    std::function<int()> erased = with_constructor(held);
    const int by_copy = co_await sync_to_async(erased)();
    auto bound = std::bind_front(&counted::value, held);
    const int by_bind = co_await sync_to_async(bound)();
    co_return (by_copy + by_bind) / 2;
  });
}

TEST_CASE("gcc12_safe_spellings: options inside the expression") {
  bothworlds::worker_pool pool;
  check_spelling([&](const counted& held) -> awaitable<int> {
    co_return co_await sync_to_async(
        [&held] { return held.value(); },
        {.pool = &pool, .on_cancel = bothworlds::cancel_policy::abandon, .name = "inside"})();
  });
  const std::function<void()> interruptor = [] {};
  check_spelling([&](const counted& held) -> awaitable<int> {
    co_return co_await sync_to_async(
        [&held] { return held.value(); },
        {.on_cancel = bothworlds::cancel_policy::interrupt, .interruptor = &interruptor})();
  });
}

TEST_CASE("gcc12_safe_spellings: a member function with its object") {
  check_spelling([](const counted& held) -> awaitable<int> {
    const int by_pointer = co_await sync_to_async(&counted::value)(&held);
    const int by_value = co_await sync_to_async(&counted::value)(held);
    const int shared = co_await sync_to_async(&counted::value)(std::make_shared<counted>(held));
    co_return (by_pointer + by_value + shared) / 3;
  });
}

TEST_CASE("gcc12_safe_spellings: results and exceptions with destructors") {
  check_spelling([](const counted& held) -> awaitable<int> {
    const counted result = co_await sync_to_async([&held] { return held; })();
    int thrown = 0;
    try {
      co_await sync_to_async([&held] { throw held; })();
    } catch (const counted& arrived) {
      thrown = arrived.value();
    }
    co_return (result.value() + thrown) / 2;
  });
}

TEST_CASE("gcc12_safe_spellings: a context's body that has a name") {
  check_spelling([](const counted& held) -> awaitable<int> {
    auto body = [held]() -> awaitable<int> {
      co_return co_await sync_to_async([&held] { return held.value(); },
                                       {.thread_sensitive = true})();
    };
    co_return co_await bothworlds::with_thread_sensitive_context(body);
  });
}
