// SPDX-License-Identifier: BSL-1.0
//
// spawn on a loop of async_to_sync, and elsewhere: what it runs, whom it tells, and when.

#include "support/call_tools.hpp"
#include "support/captured_stderr.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/use_future.hpp>
#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::context_var;
using bothworlds::errc;
using bothworlds::spawn;
using bothworlds::sync_to_async;

namespace {

const context_var<int> number("number", 7);

awaitable<int> failing() {
  co_await yield_to_loop();
  throw std::runtime_error("spawned");
}

/// The message of what `failure` holds; empty: nothing.
std::string message_of(const std::exception_ptr& failure) {
  if (!failure) return "";
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    return e.what();
  }
}

bool is_aborted(const std::exception_ptr& failure) {
  if (!failure) return false;
  try {
    std::rethrow_exception(failure);
  } catch (const boost::system::system_error& e) {
    return e.code() == asio::error::operation_aborted;
  } catch (...) {
    return false;
  }
}

boost::system::error_code code_of(const std::exception_ptr& failure) {
  if (!failure) return {};
  try {
    std::rethrow_exception(failure);
  } catch (const bothworlds::error& e) {
    return e.code();
  } catch (...) {
    return {};
  }
}

/// Runs `coroutine_fn` as a call, on the calling thread.
template <class F>
void on_a_loop(F coroutine_fn) {
  async_to_sync(std::move(coroutine_fn))();
}

}  // namespace

TEST_CASE("spawn runs an awaitable, a function that returns one, and a deferred operation") {
  on_a_loop([]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    const int from_awaitable = co_await spawn(executor, answer(), asio::use_awaitable);
    CHECK(from_awaitable == 42);
    const int from_function = co_await spawn(executor, &answer, asio::use_awaitable);
    CHECK(from_function == 42);
    // Nothing is spawned before somebody awaits it.
    bool ran = false;
    auto sets = [&]() -> awaitable<void> {
      ran = true;
      co_return;
    };
    auto later = spawn(executor, std::ref(sets), asio::deferred);
    co_await yield_to_loop();
    CHECK_FALSE(ran);
    co_await std::move(later);
    CHECK(ran);
    co_await spawn(executor, asio::post(asio::deferred), asio::use_awaitable);
  });
}

TEST_CASE("spawn starts nothing before the loop's next turn") {
  on_a_loop([]() -> awaitable<void> {
    bool ran = false;
    auto child = [&]() -> awaitable<void> {
      ran = true;
      co_return;
    };
    spawn(co_await asio::this_coro::executor, std::ref(child), asio::detached);
    CHECK_FALSE(ran);
    co_await yield_to_loop();
    CHECK(ran);
  });
}

TEST_CASE("what a spawned coroutine, or the function that makes it, throws goes to its handler") {
  on_a_loop([]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    loop_event both(executor);
    std::string of_coroutine, of_function;
    auto throws = []() -> awaitable<void> { throw std::logic_error("no coroutine"); };
    spawn(executor, failing(),
          [&](std::exception_ptr failure, int) { of_coroutine = message_of(failure); });
    auto no_coroutine = [&]() -> awaitable<void> {
      if (executor) throw std::logic_error("no coroutine");
      return throws();
    };
    spawn(executor, no_coroutine, [&](std::exception_ptr failure) {
      of_function = message_of(failure);
      both.set();
    });
    co_await both.wait();
    co_await yield_to_loop();
    CHECK(of_function == "no coroutine");
    co_await comes_true_on_loop([&] { return !of_coroutine.empty(); });
    CHECK(of_coroutine == "spawned");
  });
}

TEST_CASE("a result that can only be moved reaches the handler of spawn") {
  on_a_loop([]() -> awaitable<void> {
    auto make = []() -> awaitable<std::unique_ptr<int>> {
      co_await yield_to_loop();
      co_return std::make_unique<int>(3);
    };
    const std::unique_ptr<int> got =
        co_await spawn(co_await asio::this_coro::executor, make, asio::use_awaitable);
    CHECK(*got == 3);
  });
}

TEST_CASE("spawn's handler runs on its own executor, and else on the one it was spawned on") {
  loop_thread other;
  std::promise<std::thread::id> of_other;
  std::thread::id here, elsewhere;
  on_a_loop([&]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    loop_event told(executor);
    auto child = []() -> awaitable<void> { co_await yield_to_loop(); };
    spawn(executor, child, asio::bind_executor(other.executor(), [&](std::exception_ptr) {
            of_other.set_value(std::this_thread::get_id());
          }));
    // It sees the values of where it was spawned, not those of the coroutine.
    number.set(5);
    int seen = 0;
    auto changes = []() -> awaitable<void> {
      number.set(6);
      co_return;
    };
    spawn(executor, changes, [&](std::exception_ptr) {
      here = std::this_thread::get_id();
      seen = number.get();
      told.set();
    });
    co_await told.wait();
    CHECK(seen == 5);
    CHECK(number.get() == 5);
  });
  elsewhere = of_other.get_future().get();
  CHECK(here == std::this_thread::get_id());
  CHECK(elsewhere != here);
}

TEST_CASE("another thread may spawn on the executor of a call") {
  on_a_loop([]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    auto spawn_there = sync_to_async([&] {
      return spawn(
                 executor,
                 []() -> awaitable<std::thread::id> {
                   co_await yield_to_loop();
                   co_return std::this_thread::get_id();
                 },
                 asio::use_future)
          .get();
    });
    const std::thread::id ran_on = co_await spawn_there();
    CHECK(ran_on == std::this_thread::get_id());
  });
}

TEST_CASE("a cancellation reaches a spawned coroutine that waits, and one that has not begun") {
  on_a_loop([]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    asio::cancellation_signal waits, new_one, over;
    std::exception_ptr of_waiting, of_new;
    bool began = false;
    loop_event told(executor);
    auto child = [&]() -> awaitable<void> {
      began = true;
      co_return;
    };
    spawn(
        executor, wait_for_ever(),
        asio::bind_cancellation_slot(waits.slot(), [&](std::exception_ptr e) { of_waiting = e; }));
    co_await yield_to_loop();
    waits.emit(asio::cancellation_type::terminal);
    spawn(executor, std::ref(child),
          asio::bind_cancellation_slot(new_one.slot(), [&](std::exception_ptr e) {
            of_new = e;
            told.set();
          }));
    new_one.emit(asio::cancellation_type::terminal);
    co_await told.wait();
    const bool was_told = co_await comes_true_on_loop([&] { return of_waiting != nullptr; });
    CHECK(was_told);
    CHECK(is_aborted(of_waiting));
    CHECK(is_aborted(of_new));
    CHECK_FALSE(began);
    // One that has ended is left alone.
    co_await spawn(executor, answer(),
                   asio::bind_cancellation_slot(over.slot(), asio::use_awaitable));
    over.emit(asio::cancellation_type::terminal);
    co_await yield_to_loop();
  });
}

TEST_CASE("what handles a spawned coroutine's cancellation sees the coroutine's values") {
  on_a_loop([]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    asio::cancellation_signal signal;
    int seen = 0;
    std::optional<loop_event> ended(executor);
    auto child = [&]() -> awaitable<void> {
      number.set(11);
      co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(
          [&](auto handler) {
            auto kept = std::make_shared<decltype(handler)>(std::move(handler));
            asio::get_associated_cancellation_slot(*kept).assign(
                [&seen, kept](asio::cancellation_type) {
                  seen = number.get();
                  asio::post(asio::get_associated_executor(*kept), std::move(*kept));
                });
          },
          asio::use_awaitable);
    };
    spawn(executor, std::ref(child),
          asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) { ended->set(); }));
    co_await yield_to_loop();
    signal.emit(asio::cancellation_type::terminal);
    co_await ended->wait();
    CHECK(seen == 11);
  });
}

TEST_CASE(
    "a spawned coroutine that ends on another executor's thread tells its handler on its loop") {
  loop_thread other;
  on_a_loop([&]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    const std::thread::id here = std::this_thread::get_id();
    std::thread::id ended_on, told_on;
    loop_event told(executor);
    auto hops = [&]() -> awaitable<int> {
      co_await asio::post(asio::bind_executor(other.executor(), asio::use_awaitable));
      ended_on = std::this_thread::get_id();
      co_return 3;
    };
    int result = 0;
    spawn(executor, std::ref(hops), [&](std::exception_ptr, int value) {
      told_on = std::this_thread::get_id();
      result = value;
      told.set();
    });
    co_await told.wait();
    CHECK(told_on == here);
    CHECK(ended_on != here);
    CHECK(result == 3);
  });
}

TEST_CASE("a handler of spawn that throws is reported, and the loop goes on") {
  captured_stderr said;
  on_a_loop([]() -> awaitable<void> {
    spawn(co_await asio::this_coro::executor, answer(),
          [](std::exception_ptr, int) { throw std::runtime_error("the handler"); });
    for (int turn = 0; turn < 3; ++turn) co_await answer();
  });
  CHECK(said.text().find("the handler") != std::string::npos);
}

TEST_CASE("a spawned coroutine is in no scope for tasks") {
  on_a_loop([]() -> awaitable<void> {
    boost::system::error_code refused;
    auto child = [&]() -> awaitable<void> {
      auto create = []() -> awaitable<int> {
        auto made = co_await bothworlds::create_task(answer());
        co_return co_await made.join();
      };
      refused = co_await outcome(create);
    };
    co_await spawn(co_await asio::this_coro::executor, std::ref(child), asio::use_awaitable);
    CHECK(refused == errc::no_context);
  });
}

// The thread ends, and with it the loop that it keeps for its calls.
TEST_CASE(
    "where the loop ends first, a spawned coroutine's frame goes, and its handler elsewhere is "
    "told") {
  loop_thread other;
  const auto in_place = std::make_shared<int>(0);
  std::promise<std::exception_ptr> waits, never_began;
  std::optional<asio::any_io_executor> executor;
  std::thread([&] {
    on_a_loop([&]() -> awaitable<void> {
      executor = co_await asio::this_coro::executor;
      auto child = [](std::shared_ptr<int>) -> awaitable<void> { co_await wait_for_ever(); };
      spawn(
          *executor, child(in_place),
          asio::bind_executor(other.executor(), [&](std::exception_ptr e) { waits.set_value(e); }));
      co_await yield_to_loop();
    });
  }).join();
  CHECK(code_of(waits.get_future().get()) == errc::loop_stopped);
  CHECK(in_place.use_count() == 1);
  spawn(*executor, answer(), asio::bind_executor(other.executor(), [&](std::exception_ptr e, int) {
    never_began.set_value(e);
  }));
  CHECK(code_of(never_began.get_future().get()) == errc::loop_stopped);
}

TEST_CASE(
    "a coroutine that is on another executor's thread when its loop ends goes when it waits next, "
    "and its handler is told") {
  loop_thread other, elsewhere;
  const auto in_frame = std::make_shared<int>(0);
  gate hopped, loop_has_ended;
  std::promise<std::exception_ptr> told;
  bool went_on = false;
  const auto hops = [&](std::shared_ptr<int>) -> awaitable<void> {
    co_await asio::post(asio::bind_executor(other.executor(), asio::use_awaitable));
    hopped.open();
    loop_has_ended.wait();
    const auto nothing = sync_to_async([] {});
    co_await nothing();
    went_on = true;
  };
  std::thread([&] {
    on_a_loop([&]() -> awaitable<void> {
      spawn(co_await asio::this_coro::executor, hops(in_frame),
            asio::bind_executor(elsewhere.executor(),
                                [&](std::exception_ptr e) { told.set_value(e); }));
      co_await yield_to_loop();
      hopped.wait();
    });
  }).join();
  loop_has_ended.open();
  auto what = told.get_future();
  REQUIRE(what.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
  CHECK(code_of(what.get()) == errc::loop_stopped);
  CHECK(comes_true([&] { return in_frame.use_count() == 1; }));
  CHECK_FALSE(went_on);
}

TEST_CASE("a callable with an alignment of its own is kept at that") {
  struct alignas(64) aligned {
    bool* is_aligned;
    awaitable<void> operator()() {
      *is_aligned = reinterpret_cast<std::uintptr_t>(this) % 64 == 0;
      return yield_to_loop();
    }
  };
  on_a_loop([]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    for (int i = 0; i < 8; ++i) {
      bool is_aligned = false;
      const aligned work{&is_aligned};
      co_await spawn(executor, work, asio::use_awaitable);
      CHECK(is_aligned);
    }
  });
}

TEST_CASE("ten thousand spawned coroutines at once, each with a call on a worker, all end") {
  on_a_loop([]() -> awaitable<void> {
    constexpr int count = 10'000;
    const auto executor = co_await asio::this_coro::executor;
    loop_event all(executor);
    int left = count, right = 0;
    for (int i = 0; i < count; ++i)
      spawn(executor, answer(), [&](std::exception_ptr failure, int value) {
        right += !failure && value == 42;
        if (--left == 0) all.set();
      });
    co_await all.wait();
    CHECK(right == count);
  });
}
