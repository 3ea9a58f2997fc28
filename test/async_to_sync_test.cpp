// SPDX-License-Identifier: BSL-1.0

#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::errc;
using bothworlds::misuse_error;
using bothworlds::sync_to_async;

namespace {

struct no_default {
  explicit no_default(int v) : value(v) {}
  int value;
};

/// Waits until it is cancelled; sets `unwound` when it has been.
awaitable<int> wait_for_ever(bool& unwound) {
  struct on_exit {
    bool& flag;
    ~on_exit() { flag = true; }
  };
  auto executor = co_await asio::this_coro::executor;
  on_exit guard{unwound};
  loop_event never(executor);
  co_await never.wait();
  co_return 1;
}

awaitable<long> thread_of_coroutine() {
  co_await yield_to_loop();
  co_return kernel_thread_id();
}

}  // namespace

TEST_CASE("no_thread_per_call: a plain thread drives its own kept loop; no thread is started") {
  std::thread([] {
    const int before = kernel_thread_count();
    const long self = kernel_thread_id();
    asio::execution_context* first_loop = nullptr;
    for (int i = 0; i < 1000; ++i) {
      async_to_sync([&]() -> awaitable<void> {
        auto executor = co_await asio::this_coro::executor;
        auto* loop = &asio::query(executor, asio::execution::context);
        if (!first_loop) first_loop = loop;
        CHECK(loop == first_loop);
        co_await yield_to_loop();
        CHECK(kernel_thread_id() == self);
      })();
    }
    CHECK(kernel_thread_count() == before);
  }).join();
}

TEST_CASE("two plain threads have two loops") {
  asio::execution_context* loops[2] = {};
  gate both_made[2];
  auto call = [&](int self) {
    loops[self] = async_to_sync([]() -> awaitable<asio::execution_context*> {
      auto executor = co_await asio::this_coro::executor;
      co_return &asio::query(executor, asio::execution::context);
    })();
    both_made[self].open();
    both_made[1 - self].wait();
  };
  std::thread first(call, 0), second(call, 1);
  first.join();
  second.join();
  CHECK(loops[0] != loops[1]);
}

TEST_CASE("results of every kind come back") {
  bool ran = false;
  auto nothing = async_to_sync([&]() -> awaitable<void> {
    co_await yield_to_loop();
    ran = true;
  });
  static_assert(std::is_void_v<decltype(nothing())>);
  nothing();
  CHECK(ran);

  auto move_only = async_to_sync(
      []() -> awaitable<std::unique_ptr<int>> { co_return std::make_unique<int>(5); });
  const std::unique_ptr<int> owned = move_only();
  CHECK(*owned == 5);

  auto not_default_constructible = async_to_sync([]() -> awaitable<no_default> {
    co_await yield_to_loop();
    co_return no_default(6);
  });
  CHECK(not_default_constructible().value == 6);

  int target = 0;
  auto reference =
      async_to_sync([&]() -> awaitable<std::reference_wrapper<int>> { co_return target; });
  CHECK(&reference().get() == &target);
}

TEST_CASE("a function object with state is kept, and not copied per call") {
  struct counting {
    int calls = 0;
    awaitable<int> operator()() {
      co_await yield_to_loop();
      co_return ++calls;
    }
  };
  counting object;
  auto by_reference = async_to_sync(std::ref(object));
  by_reference();
  CHECK(by_reference() == 2);
  CHECK(object.calls == 2);
}

TEST_CASE("captures of a coroutine lambda live as long as its coroutine") {
  auto call = async_to_sync([text = std::string(64, 'a')]() -> awaitable<std::string> {
    co_await yield_to_loop();
    co_return text + "!";
  });
  CHECK(call() == std::string(64, 'a') + "!");
  const std::string from_temporary =
      async_to_sync([text = std::string(64, 'b')]() -> awaitable<std::string> {
        co_await yield_to_loop();
        co_return text;
      })();
  CHECK(from_temporary == std::string(64, 'b'));
}

TEST_CASE(
    "exceptions of every type arrive as they were thrown, before and after the first suspension") {
  struct odd {
    int value;
  };
  auto fail = async_to_sync([](int kind, bool suspend_first) -> awaitable<int> {
    if (suspend_first) co_await yield_to_loop();
    if (kind == 0) throw 42;
    if (kind == 1) throw std::string("text");
    if (kind == 2) throw odd{3};
    throw std::out_of_range("range");
  });
  for (bool suspend_first : {false, true}) {
    CHECK_THROWS_AS(fail(0, suspend_first), int);
    CHECK_THROWS_AS(fail(1, suspend_first), std::string);
    CHECK_THROWS_AS(fail(2, suspend_first), odd);
    CHECK_THROWS_AS(fail(3, suspend_first), std::out_of_range);
  }
  // The call operator itself may throw before there is a coroutine.
  auto never_made = async_to_sync([]() -> awaitable<int> { throw std::out_of_range("early"); });
  CHECK_THROWS_AS(never_made(), std::out_of_range);
  // The thread's loop is none the worse.
  CHECK(async_to_sync(thread_of_coroutine)() == kernel_thread_id());
}

TEST_CASE("a coroutine of another executor type") {
  using executor_type = asio::io_context::executor_type;
  auto call = async_to_sync([](int n) -> awaitable<int, executor_type> {
    auto executor = co_await asio::this_coro::executor;
    asio::basic_waitable_timer<std::chrono::steady_clock,
                               asio::wait_traits<std::chrono::steady_clock>, executor_type>
        timer(executor, std::chrono::milliseconds(1));
    co_await timer.async_wait(asio::use_awaitable_t<executor_type>{});
    co_return n + 1;
  });
  CHECK(call(41) == 42);

  auto fails = async_to_sync([]() -> awaitable<void, executor_type> {
    throw 7;
    co_return;
  });
  CHECK_THROWS_AS(fails(), int);

  run_async_root([&]() -> awaitable<void> {
    auto on_worker = sync_to_async([&] { return call(41); });
    const int got = co_await on_worker();
    CHECK(got == 42);
  });
}

TEST_CASE("a deferred operation") {
  loop_thread other;
  SUBCASE("without a result") {
    asio::steady_timer timer(other.executor(), std::chrono::milliseconds(1));
    async_to_sync([&] { return timer.async_wait(asio::deferred); })();
    CHECK(timer.expiry() <= std::chrono::steady_clock::now());
    auto chained = async_to_sync([&] {
      return asio::post(other.executor(), asio::deferred([] { return asio::deferred.values(7); }));
    });
    CHECK(chained() == 7);
  }
  SUBCASE("with a result, or an error as a system_error") {
    asio::experimental::channel<void(boost::system::error_code, int)> channel(other.executor(), 2);
    auto receive = async_to_sync([&] { return channel.async_receive(asio::deferred); });
    asio::post(other.executor(), [&] {
      channel.try_send(boost::system::error_code(), 42);
      channel.try_send(asio::error::make_error_code(asio::error::eof), 0);
    });
    // Round trip: from here on both are there, and the channel's own thread is at rest.
    async_to_sync([&] { return asio::post(other.executor(), asio::deferred); })();
    CHECK(receive() == 42);
    boost::system::error_code code;
    try {
      receive();
    } catch (const boost::system::system_error& e) {
      code = e.code();
    }
    CHECK(code == asio::error::eof);
  }
}

TEST_CASE(
    "refused on a thread that is running a loop, whoever made that loop, before the callable is "
    "called") {
  bool touched = false;
  auto blocking = async_to_sync([&]() -> awaitable<void> {
    touched = true;
    return yield_to_loop();
  });
  auto code_here = [&] {
    try {
      blocking();
    } catch (const misuse_error& e) {
      return e.code();
    }
    return boost::system::error_code();
  };
  SUBCASE("a coroutine") {
    run_async_root([&]() -> awaitable<void> {
      CHECK(code_here() == errc::running_loop);
      co_await yield_to_loop();
      CHECK(code_here() == errc::running_loop);
    });
  }
  SUBCASE("a plain handler") {
    asio::io_context loop;
    asio::post(loop, [&] { CHECK(code_here() == errc::running_loop); });
    loop.run();
  }
  SUBCASE("a coroutine under async_to_sync") {
    async_to_sync([&]() -> awaitable<void> {
      CHECK(code_here() == errc::running_loop);
      co_return;
    })();
  }
  SUBCASE("with force_new_loop too") {
    auto forced = async_to_sync(
        [&]() -> awaitable<void> {
          touched = true;
          return yield_to_loop();
        },
        {.force_new_loop = true});
    run_async_root([&]() -> awaitable<void> {
      CHECK_THROWS_AS(forced(), misuse_error);
      co_return;
    });
  }
  SUBCASE("a thread of an asio::thread_pool") {
    asio::thread_pool threads(1);
    asio::post(threads, [&] { CHECK(code_here() == errc::running_loop); });
    threads.join();
  }
  CHECK_FALSE(touched);
  // And it is no longer refused when the loop has been left.
  blocking();
  CHECK(touched);
}

TEST_CASE("a thread of an asio::thread_pool may block inside a blocking_region") {
  asio::thread_pool threads(1);
  long ran_on = 0, thread = 0;
  asio::post(threads, [&] {
    thread = kernel_thread_id();
    bothworlds::blocking_region may_block("a test");
    ran_on = async_to_sync(thread_of_coroutine)();
  });
  threads.join();
  CHECK(thread != 0);
  CHECK(ran_on == thread);
}

TEST_CASE("a timeout cancels the coroutine and is thrown when that has unwound") {
  bool unwound = false;
  boost::system::error_code code;
  try {
    async_to_sync(wait_for_ever, {.timeout = std::chrono::milliseconds(20)})(std::ref(unwound));
  } catch (const bothworlds::error& e) {
    code = e.code();
    CHECK(unwound);
    CHECK_FALSE(e.report().empty());
  }
  CHECK(code == errc::timed_out);
  // The loop can be used again, and nothing of the timeout is left on it.
  CHECK(async_to_sync(thread_of_coroutine)() == kernel_thread_id());
}

TEST_CASE("a timeout that has not passed changes nothing") {
  auto quick = async_to_sync(thread_of_coroutine, {.timeout = std::chrono::hours(1)});
  for (int i = 0; i < 100; ++i) CHECK(quick() == kernel_thread_id());
}

TEST_CASE("a result that is produced in spite of the timeout is returned") {
  auto stubborn = async_to_sync(
      []() -> awaitable<int> {
        bool unwound = false;
        try {
          co_await wait_for_ever(unwound);
        } catch (const boost::system::system_error& e) {
          CHECK(is_cancellation(e));
        }
        co_return 42;
      },
      {.timeout = std::chrono::milliseconds(5)});
  CHECK(stubborn() == 42);
}

TEST_CASE("a timeout on a worker cancels the coroutine on the loop that awaits the worker") {
  run_async_root([]() -> awaitable<void> {
    bool unwound = false;
    auto on_worker = sync_to_async([&] {
      try {
        async_to_sync(wait_for_ever, {.timeout = std::chrono::milliseconds(20)})(std::ref(unwound));
      } catch (const bothworlds::error& e) {
        return e.code();
      }
      return boost::system::error_code();
    });
    const auto code = co_await on_worker();
    CHECK(code == errc::timed_out);
    CHECK(unwound);
  });
}

TEST_CASE("a stop token cancels the coroutine") {
  bool unwound = false;
  auto aborted = [&](std::stop_token token) {
    try {
      async_to_sync(wait_for_ever, {.stop = token})(std::ref(unwound));
    } catch (const boost::system::system_error& e) {
      return is_cancellation(e);
    }
    return false;
  };
  SUBCASE("that is stopped by another thread while the coroutine waits") {
    std::stop_source source;
    gate waiting;
    std::thread stopper([&] {
      waiting.wait();
      source.request_stop();
    });
    auto call = async_to_sync(
        [&]() -> awaitable<int> {
          waiting.open();
          return wait_for_ever(unwound);
        },
        {.stop = source.get_token()});
    bool cancelled = false;
    try {
      call();
    } catch (const boost::system::system_error& e) {
      cancelled = is_cancellation(e);
    }
    stopper.join();
    CHECK(cancelled);
    CHECK(unwound);
  }
  SUBCASE("that was stopped before the call") {
    std::stop_source source;
    source.request_stop();
    CHECK(aborted(source.get_token()));
  }
  SUBCASE("a token that is stopped later than the call changes nothing") {
    std::stop_source source;
    auto call = async_to_sync(thread_of_coroutine, {.stop = source.get_token()});
    CHECK(call() == kernel_thread_id());
    source.request_stop();
    CHECK(async_to_sync(thread_of_coroutine)() == kernel_thread_id());
  }
}

TEST_CASE("a null callable is refused") {
  boost::system::error_code code;
  try {
    async_to_sync(std::function<awaitable<void>()>())();
  } catch (const misuse_error& e) {
    code = e.code();
  }
  CHECK(code == errc::invalid_options);
}

TEST_CASE("many threads call at once, each on its own loop") {
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i)
        right += async_to_sync(thread_of_coroutine)() == kernel_thread_id();
    });
  for (auto& thread : threads) thread.join();
  CHECK(right == 8 * 200);
}
