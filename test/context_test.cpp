// SPDX-License-Identifier: BSL-1.0
//
// Values that follow a call: what is particular to this library. What asgiref pins of them is in
// asgiref_parity_context_test.cpp.

#include "support/call_tools.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/gather.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_local_adapter.hpp>
#include <bothworlds/thread_sensitive.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <doctest/doctest.h>

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <tuple>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::context;
using bothworlds::context_var;
using bothworlds::errc;
using bothworlds::gather;
using bothworlds::misuse_error;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::with_thread_sensitive_context;

namespace {

const context_var<int> number("number", 7);
const context_var<std::string> word("word");

/// The code of the misuse_error that `f` throws; none: it throws nothing.
template <class F>
boost::system::error_code refusal(F f) {
  try {
    f();
  } catch (const misuse_error& e) {
    return e.code();
  }
  return {};
}

/// A value that cannot be compared, counts its copies, and is told apart by its address.
struct incomparable {
  explicit incomparable(int* counter) : copies(counter) {}
  incomparable(const incomparable& other) : copies(other.copies) { ++*copies; }
  incomparable(incomparable&&) noexcept = default;
  bool operator==(const incomparable&) const = delete;
  int* copies;
};

}  // namespace

TEST_CASE("a variable has its initial value until it is set, and again when it is reset") {
  const context_var<std::string> local("local", "initial");
  CHECK(local.get() == "initial");
  const auto first = local.set("one");
  const auto second = local.set("two");
  CHECK(local.get() == "two");
  local.reset(second);
  CHECK(local.get() == "one");
  local.reset(first);
  CHECK(local.get() == "initial");
}

TEST_CASE("a scope sets a variable back, also when it is left by an exception") {
  try {
    const context_var<int>::scope outer(number, 1);
    const context_var<int>::scope inner(number, 2);
    CHECK(number.get() == 2);
    throw std::runtime_error("out");
  } catch (const std::runtime_error&) {
    CHECK(number.get() == 7);
  }
}

TEST_CASE("a scope in a coroutine holds across its waits and crossings, and only there") {
  const context_var<int>::scope here(number, 1);
  async_to_sync([]() -> awaitable<void> {
    auto read = sync_to_async([] { return number.get(); });
    {
      const context_var<int>::scope inside(number, 2);
      co_await yield_to_loop();
      const int seen = co_await read();
      CHECK(seen == 2);
      CHECK(number.get() == 2);
    }
    co_await yield_to_loop();
    CHECK(number.get() == 1);
  })();
  CHECK(number.get() == 1);
}

TEST_CASE("a frame with a scope that somebody else destroys leaves that one's values alone") {
  bool waiting = false;
  gate left;
  std::optional<asio::io_context> loop(std::in_place, 1);
  std::optional<loop_event> never(std::in_place, loop->get_executor());
  auto scoped = [&]() -> awaitable<void> {
    const context_var<int>::scope inside(number, 2);
    waiting = true;
    co_await never->wait();
  };
  // The scope's coroutine runs on this loop, its caller waits on a worker.
  auto enter = sync_to_async([&] {
    try {
      async_to_sync(std::ref(scoped))();
    } catch (const bothworlds::error& e) {
      CHECK(e.code() == errc::loop_stopped);
    }
    left.open();
  });
  asio::co_spawn(*loop, [&] { return enter(); }, [](std::exception_ptr) {});
  REQUIRE(comes_true([&] {
    loop->poll();
    return waiting;
  }));
  const context_var<int>::scope mine(number, 5);
  never.reset();
  loop.reset();
  CHECK(number.get() == 5);
  left.wait();
}

TEST_CASE("a token of another variable is refused, and changes nothing") {
  const context_var<int> other("other");
  const auto token = other.set(1);
  const auto mine = number.set(2);
  CHECK(refusal([&] { number.reset(token); }) == errc::invalid_options);
  CHECK(refusal([&] { number.reset({}); }) == errc::invalid_options);
  CHECK(number.get() == 2);
  number.reset(mine);
  other.reset(token);
}

TEST_CASE("token_across_hops: a token set in one call can be reset in another, on another thread") {
  const auto before = number.set(1);
  context_var<int>::token in_call;
  auto set = sync_to_async([&] { in_call = number.set(2); });
  auto reset = sync_to_async([&] { number.reset(in_call); });
  async_to_sync([&]() -> awaitable<void> { co_await set(); })();
  CHECK(number.get() == 2);
  async_to_sync([&]() -> awaitable<void> { co_await reset(); })();
  CHECK(number.get() == 1);
  async_to_sync([&]() -> awaitable<void> {
    number.reset(before);
    co_return;
  })();
  CHECK(number.get() == 7);
}

TEST_CASE("context_compare: what comes back is told apart by identity, and never copied") {
  int copies = 0;
  const context_var<std::optional<incomparable>> thing("thing");
  const auto before = thing.set(std::optional<incomparable>(std::in_place, &copies));
  const incomparable* const mine = &*thing.get();
  const int copies_of_set = copies;
  const incomparable* seen = nullptr;
  auto look = sync_to_async([&] { seen = &*thing.get(); });
  async_to_sync([&]() -> awaitable<void> { co_await look(); })();
  CHECK(seen == mine);
  CHECK(&*thing.get() == mine);
  auto replace =
      sync_to_async([&] { thing.set(std::optional<incomparable>(std::in_place, &copies)); });
  async_to_sync([&]() -> awaitable<void> { co_await replace(); })();
  CHECK(&*thing.get() != mine);
  CHECK(copies == copies_of_set);
  thing.reset(before);
}

TEST_CASE("a change comes back when the call throws, through both bridges") {
  const context_var<int>::scope here(number, 1);
  auto fail = sync_to_async([] {
    number.set(number.get() + 1);
    throw std::runtime_error("no");
  });
  bool thrown = false;
  try {
    async_to_sync([&]() -> awaitable<void> {
      number.set(number.get() + 10);
      co_await fail();
    })();
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  CHECK(thrown);
  CHECK(number.get() == 12);
}

TEST_CASE("a change comes back when the call is cancelled, unless the callable was abandoned") {
  for (const cancel_policy policy : {cancel_policy::wait, cancel_policy::abandon}) {
    const context_var<int>::scope here(number, 7);
    gate running, go, ended;
    auto body = [&](std::stop_token) {
      number.set(2);
      running.open();
      go.wait();
      number.set(3);
      ended.open();
    };
    auto call = sync_to_async(std::ref(body), {.on_cancel = policy});
    int seen = 0;
    async_to_sync([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      auto inner = [&]() -> awaitable<void> {
        try {
          co_await call();
        } catch (const boost::system::system_error&) {
          // abandoned
        }
        co_await asio::this_coro::reset_cancellation_state();
        seen = number.get();
      };
      child_task task(executor, std::ref(inner));
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      if (policy == cancel_policy::wait) go.open();
      co_await task.join();
      go.open();
      ended.wait();
    })();
    CHECK(seen == (policy == cancel_policy::wait ? 3 : 7));
  }
}

TEST_CASE("under a bare co_spawn get gives the initial value, and set is refused with no_context") {
  const context_var<int>::scope outside(number, 1);
  boost::system::error_code refused, refused_after;
  int seen = 0, in_callable = 0;
  auto read = sync_to_async([&] {
    const int before = number.get();
    number.set(5);  // the callable has values of its own
    return before * 10 + number.get();
  });
  run_async_root([&]() -> awaitable<void> {
    seen = number.get();
    refused = refusal([] { number.set(2); });
    in_callable = co_await read();
    refused_after = refusal([] { number.set(2); });
    CHECK(number.get() == 7);
  });
  CHECK(seen == 7);
  CHECK(in_callable == 75);
  CHECK(refused == errc::no_context);
  CHECK(refused_after == errc::no_context);
  CHECK(number.get() == 1);
}

TEST_CASE("handlers of a loop that a callable runs are no part of the call") {
  const context_var<int>::scope here(number, 1);
  boost::system::error_code refused;
  auto own_loop = sync_to_async([&] {
    number.set(2);
    asio::io_context loop;
    asio::post(loop, [&] { refused = refusal([] { number.set(3); }); });
    loop.run();
    return number.get();
  });
  int seen = 0;
  async_to_sync([&]() -> awaitable<void> { seen = co_await own_loop(); })();
  CHECK(refused == errc::no_context);
  CHECK(seen == 2);
}

TEST_CASE("functions posted to a pool carry no context") {
  std::promise<boost::system::error_code> refused;
  asio::post(bothworlds::default_worker_pool().get_executor(),
             [&] { refused.set_value(refusal([] { number.set(3); })); });
  CHECK(refused.get_future().get() == errc::no_context);
}

TEST_CASE("the next call never sees the values of the last one, nor does what outlives its call") {
  const context_var<int> other("other", -1);
  int seen = 0, late = 0;
  bool ran = false;
  boost::system::error_code late_set;
  std::optional<loop_event> go;
  auto outlives = [&]() -> awaitable<void> {
    try {
      co_await go->wait();
    } catch (const boost::system::system_error&) {
      co_return;
    }
    late_set = refusal([&] { other.set(2); });
    late = other.get();
  };
  auto first = [&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    go.emplace(executor);
    other.set(1);
    asio::co_spawn(executor, std::ref(outlives), asio::detached);
    co_await yield_to_loop();
  };
  std::thread([&] {
    context::current().run([&] { async_to_sync(first)(); });
    context::current().run([&] {
      async_to_sync([&]() -> awaitable<void> {
        seen = other.get();
        go->set();
        ran = co_await comes_true_on_loop([&] { return late != 0; });
      })();
    });
    go.reset();
  }).join();
  CHECK(seen == -1);
  CHECK(ran);
  CHECK(late == -1);
  CHECK(late_set == errc::no_context);
}

TEST_CASE("siblings that share a call's values do not undo each other's changes") {
  const context_var<int>::scope a(number, 0);
  const context_var<std::string>::scope b(word, "");
  async_to_sync([&]() -> awaitable<void> {
    using namespace asio::experimental::awaitable_operators;
    gate both;
    auto set_number = sync_to_async([&] {
      both.wait();
      number.set(1);
    });
    auto set_word = sync_to_async([&] {
      both.open();
      word.set("set");
    });
    co_await (set_number() && set_word());
    CHECK(number.get() == 1);
    CHECK(word.get() == "set");
  })();
}

TEST_CASE("values go into a thread-sensitive context, and what is changed there comes out") {
  int seen = 0;
  auto increment = [&]() -> awaitable<void> {
    auto call = sync_to_async([] { number.set(number.get() + 1); }, thread_sensitive);
    co_await call();
    number.set(number.get() * 2);
  };
  auto in_context = [&]() -> awaitable<void> {
    number.set(20);
    co_await with_thread_sensitive_context(std::ref(increment));
    seen = number.get();
  };
  // Below an async root, where a context makes a difference.
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async([&] { async_to_sync(std::ref(in_context))(); });
    co_await call();
  });
  CHECK(seen == 42);
}

TEST_CASE("a context is a copy: what runs in it leaks nothing, neither out nor in") {
  const context_var<int>::scope here(number, 1);
  const context taken = context::current();
  const context same = taken;
  number.set(2);
  CHECK(taken.get(number) == 1);
  CHECK(taken.run([] {
    number.set(number.get() + 10);
    return number.get();
  }) == 11);
  CHECK(same.get(number) == 1);
  CHECK(number.get() == 2);
  // Also where nothing carries values otherwise.
  run_async_root([&]() -> awaitable<void> {
    CHECK(taken.run([] {
      number.set(5);
      return number.get();
    }) == 5);
    CHECK(number.get() == 7);
    co_return;
  });
}

TEST_CASE("what handles a call's cancellation sees the values of that call") {
  const auto before = number.set(1);
  int seen = 0;
  std::stop_source stop;
  // An operation that handles its cancellation on the spot.
  auto coroutine = [&]() -> awaitable<void> {
    number.set(2);
    const auto start = [&](auto handler) {
      auto waits = std::make_shared<decltype(handler)>(std::move(handler));
      asio::get_associated_cancellation_slot(*waits).assign([&, waits](asio::cancellation_type) {
        seen = number.get();
        asio::post(asio::get_associated_executor(*waits), std::move(*waits));
      });
      stop.request_stop();
    };
    co_await asio::async_initiate<const asio::deferred_t&, void()>(start, asio::deferred);
  };
  async_to_sync(std::ref(coroutine), {.stop = stop.get_token()})();
  CHECK(seen == 2);
  CHECK(number.get() == 2);
  number.reset(before);
}

TEST_CASE("values are destroyed with the last that could see them") {
  struct counted {
    explicit counted(int& living) : living_(&living) { ++living; }
    counted(const counted& other) : living_(other.living_) { ++*living_; }
    counted& operator=(const counted&) = delete;
    ~counted() { --*living_; }
    int* living_;
  };
  int living = 0;
  std::thread([&] {
    const context_var<std::shared_ptr<counted>> held("held");
    const auto before = held.set(std::make_shared<counted>(living));
    auto replace = sync_to_async([&] { held.set(std::make_shared<counted>(living)); });
    async_to_sync([&]() -> awaitable<void> { co_await replace(); })();
    CHECK(living == 1);
    held.reset(before);
    CHECK(living == 0);
    held.set(std::make_shared<counted>(living));
  }).join();
  CHECK(living == 0);
}

namespace {

// Somebody else's.
thread_local std::string prefix;

}  // namespace

TEST_CASE(
    "an adapter makes somebody else's thread_local follow calls, and leaves each thread its own") {
  const bothworlds::thread_local_adapter<std::string> adapter(
      "prefix", [] { return prefix; }, [](const std::string& value) { prefix = value; });
  prefix = "main";
  auto extend = sync_to_async([] { prefix += "+worker"; });
  auto nested = sync_to_async([] {
    async_to_sync([]() -> awaitable<void> {
      prefix += "+inner";
      co_return;
    })();
  });
  async_to_sync([&]() -> awaitable<void> {
    CHECK(prefix == "main");
    prefix += "+loop";
    co_await extend();
    CHECK(prefix == "main+loop+worker");
    co_await nested();
    co_await yield_to_loop();
    CHECK(prefix == "main+loop+worker+inner");
    auto child = []() -> awaitable<std::string> {
      prefix += "+child";
      co_await yield_to_loop();
      co_return prefix;
    };
    const std::tuple<std::string, std::string> children = co_await gather(child(), child());
    CHECK(children == std::tuple("main+loop+worker+inner+child", "main+loop+worker+inner+child"));
    CHECK(prefix == "main+loop+worker+inner");
    prefix += "+end";
  })();
  CHECK(prefix == "main+loop+worker+inner+end");
  // A worker's own value is there before and after, be it none; and nobody else's is seen.
  std::string on_worker = "?";
  auto look = sync_to_async([&] { on_worker = prefix; });
  run_async_root([&]() -> awaitable<void> {
    prefix = "bare";
    co_await look();
    CHECK(prefix == "bare");
  });
  CHECK(on_worker.empty());
  std::promise<std::string> posted;
  asio::post(bothworlds::default_worker_pool().get_executor(), [&] { posted.set_value(prefix); });
  CHECK(posted.get_future().get().empty());
  prefix.clear();
  async_to_sync([]() -> awaitable<void> {
    CHECK(prefix.empty());
    co_return;
  })();
}
