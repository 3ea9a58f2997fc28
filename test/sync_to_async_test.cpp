// SPDX-License-Identifier: BSL-1.0

#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/test_executors.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/thread/exceptions.hpp>
#include <doctest/doctest.h>

#include <any>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <type_traits>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;

namespace {

struct no_default {
  explicit no_default(int v) : value(v) {}
  int value;
};

struct hides_its_address {
  void operator&() const {}
  int value;
};

int global_number = 7;
int& global_reference() { return global_number; }
const int& global_const_reference() { return global_number; }

struct counter {
  int value = 0;
  int add(int n) { return value += n; }
  int peek() const noexcept { return value; }
  int& slot() { return value; }
};

}  // namespace

TEST_CASE("results of every kind come back") {
  run_async_root([]() -> awaitable<void> {
    bool ran = false;
    auto nothing = sync_to_async([&] { ran = true; });
    static_assert(std::is_same_v<decltype(nothing()), awaitable<void>>);
    co_await nothing();
    CHECK(ran);

    auto move_only = sync_to_async([] { return std::make_unique<int>(5); });
    static_assert(std::is_same_v<decltype(move_only()), awaitable<std::unique_ptr<int>>>);
    const auto owned = co_await move_only();
    CHECK(*owned == 5);

    auto not_default_constructible = sync_to_async([] { return no_default(6); });
    const no_default made = co_await not_default_constructible();
    CHECK(made.value == 6);

    auto big = sync_to_async([] { return std::array<int, 1000>{1, 2, 3}; });
    const auto array = co_await big();
    CHECK(array[2] == 3);

    auto constant = sync_to_async([]() -> const std::string { return "constant"; });
    const std::string text = co_await constant();
    CHECK(text == "constant");

    auto without_address = sync_to_async([] { return hides_its_address{9}; });
    const auto hidden = co_await without_address();
    CHECK(hidden.value == 9);

    auto of_any_type = sync_to_async([] { return std::any(8); });
    const std::any any = co_await of_any_type();
    REQUIRE(std::any_cast<int>(&any));
    CHECK(std::any_cast<int>(any) == 8);
  });
}

TEST_CASE("a reference comes back as a std::reference_wrapper to the same object") {
  run_async_root([]() -> awaitable<void> {
    auto mutable_one = sync_to_async(global_reference);
    static_assert(std::is_same_v<decltype(mutable_one()), awaitable<std::reference_wrapper<int>>>);
    const std::reference_wrapper<int> number = co_await mutable_one();
    CHECK(&number.get() == &global_number);

    auto const_one = sync_to_async(global_const_reference);
    static_assert(
        std::is_same_v<decltype(const_one()), awaitable<std::reference_wrapper<const int>>>);
    const std::reference_wrapper<const int> view = co_await const_one();
    CHECK(&view.get() == &global_number);
  });
}

TEST_CASE("callables of every kind are called") {
  run_async_root([]() -> awaitable<void> {
    struct functor {
      int operator()(int a) { return a + ++calls; }
      int calls = 0;
    };
    auto by_functor = sync_to_async(functor{});
    const int functor_result = co_await by_functor(1);
    CHECK(functor_result == 2);

    functor object;
    auto by_reference = sync_to_async(std::ref(object));
    co_await by_reference(1);
    co_await by_reference(1);
    CHECK(object.calls == 2);

    auto bound = sync_to_async(std::bind_front([](int a, int b) { return 10 * a + b; }, 4));
    const int bound_result = co_await bound(2);
    CHECK(bound_result == 42);

    auto type_erased = sync_to_async(std::function<int(int)>([](int n) { return n * 2; }));
    const int erased_result = co_await type_erased(21);
    CHECK(erased_result == 42);

    struct owner {
      explicit owner(int n) : number(std::make_unique<int>(n)) {}
      int operator()() const { return *number; }
      std::unique_ptr<int> number;
    };
    auto move_only = sync_to_async(owner(9));
    const int move_only_result = co_await std::move(move_only)();
    CHECK(move_only_result == 9);
  });
}

TEST_CASE("member functions take their object, a pointer, a smart pointer or a reference first") {
  run_async_root([]() -> awaitable<void> {
    counter object;
    auto add = sync_to_async(&counter::add);
    const int by_pointer = co_await add(&object, 1);
    const int by_reference = co_await add(std::ref(object), 2);
    const int by_value = co_await add(object, 100);
    CHECK(by_pointer == 1);
    CHECK(by_reference == 3);
    CHECK(by_value == 103);
    CHECK(object.value == 3);

    auto shared = std::make_shared<counter>();
    const int by_shared = co_await add(shared, 5);
    CHECK(by_shared == 5);
    CHECK(shared->value == 5);

    auto unique = std::make_unique<counter>();
    const int by_unique = co_await add(std::move(unique), 6);
    CHECK(by_unique == 6);

    auto peek = sync_to_async(&counter::peek);
    const int peeked = co_await peek(std::cref(object));
    CHECK(peeked == 3);

    auto slot = sync_to_async(&counter::slot);
    const std::reference_wrapper<int> inside = co_await slot(&object);
    CHECK(&inside.get() == &object.value);
  });
}

TEST_CASE("arguments are copied at the call, not when it is awaited") {
  run_async_root([]() -> awaitable<void> {
    auto echo = sync_to_async([](std::string s) { return s; });
    std::string text(64, 'a');
    awaitable<std::string> pending = echo(text);
    text.assign(64, 'b');
    const std::string got = co_await std::move(pending);
    CHECK(got == std::string(64, 'a'));
  });
}

TEST_CASE("an awaitable may outlive the wrapper that made it") {
  run_async_root([]() -> awaitable<void> {
    auto make = [] {
      auto append = [text = std::string(64, 'a')](int n) { return text + std::to_string(n); };
      auto wrapper = sync_to_async(append);
      return wrapper(1);
    };
    awaitable<std::string> pending = make();
    const std::string got = co_await std::move(pending);
    CHECK(got == std::string(64, 'a') + "1");
  });
}

namespace {

struct not_a_std_exception {
  std::shared_ptr<int> identity;
};

struct derived_error : std::runtime_error {
  derived_error() : std::runtime_error("derived"), payload("payload") {}
  std::string payload;
};

/// What is thrown, for a catch clause: clang 19 loses a pointer that is caught by reference after
/// std::rethrow_exception, in plain C++ too; and g++ warns of classes that are caught by value.
template <class Type>
using caught_as = std::conditional_t<std::is_pointer_v<Type>, Type, const Type&>;

/// What `thrown` throws inside a callable, as `Type`, on the awaiting side.
template <class Type, class Thrower>
awaitable<std::optional<Type>> caught(Thrower thrower) {
  auto callable = [thrower] { thrower(); };
  auto call = sync_to_async(callable);
  std::optional<Type> arrived;
  try {
    co_await call();
  } catch (caught_as<Type> e) {
    arrived.emplace(e);
  }
  co_return arrived;
}

}  // namespace

TEST_CASE("exceptions of every type arrive as they were thrown") {
  run_async_root([]() -> awaitable<void> {
    const auto integer = co_await caught<int>([] { throw 42; });
    CHECK(integer == 42);

    const auto text = co_await caught<const char*>([] { throw "text"; });
    REQUIRE(text.has_value());
    CHECK(std::string(*text) == "text");

    auto identity = std::make_shared<int>(1);
    auto throw_object = [identity] { throw not_a_std_exception{identity}; };
    const auto object = co_await caught<not_a_std_exception>(throw_object);
    REQUIRE(object.has_value());
    CHECK(object->identity == identity);

    auto derived = sync_to_async([] { throw derived_error(); });
    std::string payload;
    try {
      co_await derived();
    } catch (const std::runtime_error& e) {
      payload = dynamic_cast<const derived_error&>(e).payload;
    }
    CHECK(payload == "payload");

    auto cancelled_on_its_own = [] {
      throw boost::system::system_error(asio::error::operation_aborted);
    };
    const auto aborted = co_await caught<boost::system::system_error>(cancelled_on_its_own);
    REQUIRE(aborted.has_value());
    CHECK(is_cancellation(*aborted));
  });
}

TEST_CASE("boost::thread_interrupted that nobody caused arrives as it was thrown") {
  run_async_root([]() -> awaitable<void> {
    const auto interrupted =
        co_await caught<boost::thread_interrupted>([] { throw boost::thread_interrupted(); });
    CHECK(interrupted.has_value());
  });
}

TEST_CASE("an exception crosses ten layers and is the same object at the end") {
  struct layers {
    static awaitable<void> async_layer(int depth, const void*& address) {
      auto call = sync_to_async(sync_layer);
      co_await call(depth, std::ref(address));
    }
    static void sync_layer(int depth, const void*& address) {
      if (depth > 0) {
        async_to_sync(async_layer)(depth - 1, std::ref(address));
        return;
      }
      try {
        throw derived_error();
      } catch (const derived_error& e) {
        address = &e;
        throw;
      }
    }
  };
  run_async_root([]() -> awaitable<void> {
    const void* thrown = nullptr;
    const void* arrived = nullptr;
    try {
      co_await layers::async_layer(9, thrown);
    } catch (const derived_error& e) {
      arrived = &e;
    }
    CHECK(thrown != nullptr);
    CHECK(arrived == thrown);
  });
}

TEST_CASE("what a thread is handling is left alone by the calls it runs while it is blocked") {
  const long root = kernel_thread_id();
  long ran_on = 0;
  bool same = false;
  std::exception_ptr inside;
  try {
    throw derived_error();
  } catch (const derived_error&) {
    const auto before = std::current_exception();
    async_to_sync([&]() -> awaitable<void> {
      auto throws = sync_to_async(
          [&] {
            ran_on = kernel_thread_id();
            throw 1;
          },
          {.thread_sensitive = true});
      try {
        co_await throws();
      } catch (int) {
        inside = std::current_exception();
      }
    })();
    same = std::current_exception() == before;
  }
  CHECK(ran_on == root);
  CHECK(inside);
  CHECK(same);
  CHECK_FALSE(std::current_exception());
}

TEST_CASE("a callable that takes a std::stop_token first is given one") {
  run_async_root([]() -> awaitable<void> {
    auto with_token = sync_to_async([](std::stop_token token, int n) {
      CHECK(token.stop_possible());
      CHECK_FALSE(token.stop_requested());
      return n + 1;
    });
    static_assert(std::is_same_v<decltype(with_token(1)), awaitable<int>>);
    const int got = co_await with_token(41);
    CHECK(got == 42);
  });
}

TEST_CASE("with an executor, the callable runs there and nowhere else") {
  asio::thread_pool threads(2);
  run_async_root([&]() -> awaitable<void> {
    const long loop_id = kernel_thread_id();
    const asio::any_io_executor executor = threads.get_executor();
    auto on_pool = sync_to_async([&] { return threads.get_executor().running_in_this_thread(); },
                                 {.executor = &executor});
    const bool there = co_await on_pool();
    CHECK(there);
    CHECK(kernel_thread_id() == loop_id);

    auto strand = asio::make_strand(threads);
    const asio::any_io_executor strand_executor = strand;
    in_flight inside;
    auto on_strand = sync_to_async(
        [&] {
          in_flight::visit here(inside);
          CHECK(strand.running_in_this_thread());
        },
        {.executor = &strand_executor});
    auto loop = co_await asio::this_coro::executor;
    child_task first(loop, [&] { return on_strand(); });
    child_task second(loop, [&] { return on_strand(); });
    co_await first.join();
    co_await second.join();
    CHECK(inside.max() == 1);
  });
}

TEST_CASE("with an executor, the callable may call back into async code") {
  asio::thread_pool threads(1);
  run_async_root([&]() -> awaitable<void> {
    const long loop_id = kernel_thread_id();
    const asio::any_io_executor executor = threads.get_executor();
    auto nested = sync_to_async(
        [] {
          return async_to_sync([]() -> awaitable<long> {
            co_await yield_to_loop();
            co_return kernel_thread_id();
          })();
        },
        {.executor = &executor});
    const long ran_on = co_await nested();
    CHECK(ran_on == loop_id);
  });
}

TEST_CASE("what the options point to is copied by the wrap") {
  asio::thread_pool threads(1);
  bothworlds::worker_pool pool;
  std::optional<asio::any_io_executor> executor(threads.get_executor());
  auto on_executor = sync_to_async([&] { return threads.get_executor().running_in_this_thread(); },
                                   {.executor = &*executor});
  executor.reset();
  auto name = std::make_unique<std::string>("a name in a buffer that is gone");
  gate running, release;
  auto named = sync_to_async(
      [&] {
        running.open();
        release.wait();
      },
      {.pool = &pool, .name = name->c_str()});
  name.reset();
  std::thread loop([&] {
    run_async_root([&]() -> awaitable<void> {
      const bool there = co_await on_executor();
      CHECK(there);
      co_await named();
    });
  });
  running.wait();
  const auto left = pool.shutdown(std::chrono::milliseconds(0));
  REQUIRE(left.size() == 1);
  CHECK(left[0].name == "a name in a buffer that is gone");
  release.open();
  loop.join();
}

TEST_CASE("a call without a name goes by the place of its wrap") {
  bothworlds::worker_pool pool;
  gate running, release;
  const unsigned line = std::source_location::current().line() + 1;
  auto unnamed = sync_to_async(
      [&] {
        running.open();
        release.wait();
      },
      {.pool = &pool});
  std::thread loop([&] { run_async_root([&] { return unnamed(); }); });
  running.wait();
  const auto left = pool.shutdown(std::chrono::milliseconds(0));
  REQUIRE(left.size() == 1);
  CHECK(left[0].name.find("sync_to_async_test.cpp:" + std::to_string(line)) != std::string::npos);
  CHECK(left[0].where.line() == line);
  release.open();
  loop.join();
}

TEST_CASE("a call that is made and not awaited does not run") {
  bool touched = false;
  {
    auto call = sync_to_async([&] { touched = true; });
    auto dropped = call();
  }
  CHECK_FALSE(touched);
}

TEST_CASE("never_resume_wrong_thread: many calls at once from one loop all come back to it") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    const long loop_id = kernel_thread_id();
    auto twice = sync_to_async([](int n) { return 2 * n; });
    int sum = 0, on_loop = 0;
    std::vector<child_task> tasks;
    for (int i = 0; i < 1000; ++i)
      tasks.emplace_back(executor, [&, i]() -> awaitable<void> {
        const int doubled = co_await twice(i);
        sum += doubled;
        on_loop += kernel_thread_id() == loop_id;
      });
    for (auto& task : tasks) co_await task.join();
    CHECK(sum == 999 * 1000);
    CHECK(on_loop == 1000);
  });
}
