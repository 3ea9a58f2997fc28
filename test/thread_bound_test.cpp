// SPDX-License-Identifier: BSL-1.0
//
// thread_bound: one object, one thread, from its making to its end.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"
#include "support/wait_reports.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_bound.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/detached.hpp>
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::capacity_limiter;
using bothworlds::count_thread_bounds;
using bothworlds::errc;
using bothworlds::sync_to_async;
using bothworlds::thread_bound;
using bothworlds::thread_bound_options;
using bothworlds::worker_pool;

namespace {

/// Knows every thread that has touched it; neither copied nor moved.
class witness {
public:
  explicit witness(std::vector<long>* seen = nullptr) : seen_(seen) { note(); }
  ~witness() { note(); }
  witness(const witness&) = delete;
  witness& operator=(const witness&) = delete;

  long touch() {
    note();
    return kernel_thread_id();
  }
  int value = 0;

private:
  void note() {
    if (seen_) seen_->push_back(kernel_thread_id());
  }
  std::vector<long>* seen_;
};

witness make_witness() { return witness(); }

/// What is written on stderr while it lives.
class captured_stderr {
public:
  captured_stderr() : file_(std::tmpfile()), before_(::dup(STDERR_FILENO)) {
    ::dup2(::fileno(file_), STDERR_FILENO);
  }
  ~captured_stderr() {
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
    std::fclose(file_);
  }
  captured_stderr(const captured_stderr&) = delete;
  captured_stderr& operator=(const captured_stderr&) = delete;

  std::string text() const {
    std::string got;
    char block[512];
    for (off_t at = 0;; at += static_cast<off_t>(sizeof block)) {
      const ssize_t count = ::pread(::fileno(file_), block, sizeof block, at);
      if (count <= 0) return got;
      got.append(block, static_cast<std::size_t>(count));
    }
  }

private:
  std::FILE* const file_;
  const int before_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

struct held_open {
  gate running, released;
  void operator()(witness&) {
    running.open();
    released.wait();
  }
};

template <class F>
boost::system::error_code code_of(F&& f) {
  boost::system::error_code code;
  try {
    f();
  } catch (const bothworlds::error& e) {
    code = e.code();
  }
  return code;
}

}  // namespace

TEST_CASE("the object is made, called and destroyed on one thread, which is nobody else's") {
  std::vector<long> seen;
  long first = 0, blocking = 0;
  {
    thread_bound<witness> object([&] { return witness(&seen); });
    blocking = object.call_blocking(&witness::touch);
    run_async_root([&]() -> awaitable<void> {
      first = co_await object.call(&witness::touch);
      co_await object.call(&witness::touch);
    });
  }
  CHECK(first != kernel_thread_id());
  CHECK(blocking == first);
  CHECK(seen == std::vector<long>(5, first));
}

TEST_CASE("the constructor returns at once, and calls wait until the object is there") {
  gate making, go_on;
  thread_bound object([&] {
    making.open();
    go_on.wait();
    return 42;
  });
  making.wait();
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    int got = 0;
    child_task call(executor, [&]() -> awaitable<void> {
      got = co_await object.call([](int& n) { return n; });
    });
    co_await yield_to_loop();
    CHECK(object.stats().busy);
    CHECK(object.stats().running == "making the object");
    CHECK(object.stats().queued == 1);
    CHECK(got == 0);
    go_on.open();
    co_await call.join();
    CHECK(got == 42);
  });
}

TEST_CASE("what make() throws, every call throws; closing is no error then") {
  thread_bound<witness> object([]() -> witness { throw std::runtime_error("no such file"); });
  bool touched = false;
  for (int i = 0; i < 2; ++i) {
    CHECK_THROWS_WITH_AS(object.call_blocking([&](witness&) { touched = true; }), "no such file",
                         std::runtime_error);
    run_async_root([&]() -> awaitable<void> {
      std::string what;
      auto call = [&](witness&) { touched = true; };
      try {
        co_await object.call(call);
      } catch (const std::runtime_error& e) {
        what = e.what();
      }
      CHECK(what == "no such file");
    });
  }
  run_async_root([&]() -> awaitable<void> { co_await object.close(); });
  CHECK_FALSE(touched);
}

TEST_CASE("calls run one at a time, in the order of awaiting") {
  in_flight inside;
  std::vector<int> order;
  thread_bound<witness> object(make_witness);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    std::vector<child_task> calls;
    for (int i = 0; i < 100; ++i)
      calls.emplace_back(executor, [&, i]() -> awaitable<void> {
        auto body = [&, i](witness&) {
          in_flight::visit here(inside);
          order.push_back(i);
        };
        co_await object.call(body);
      });
    for (auto& one : calls) co_await one.join();
  });
  CHECK(inside.max() == 1);
  CHECK(std::is_sorted(order.begin(), order.end()));
  CHECK(order.size() == 100);
}

TEST_CASE("results and exceptions arrive as sync_to_async gives them") {
  thread_bound<witness> object(make_witness);
  CHECK(object.call_blocking([](witness&) { return std::make_unique<int>(7); }) != nullptr);
  std::reference_wrapper<int> value =
      object.call_blocking([](witness& w) -> int& { return w.value; });
  object.call_blocking([](witness& w) { w.value = 5; });
  CHECK(value.get() == 5);
  CHECK_THROWS_AS(object.call_blocking([](witness&) { throw 3; }), int);
  run_async_root([&]() -> awaitable<void> {
    auto make = [](witness&) { return std::make_unique<int>(8); };
    const std::unique_ptr<int> eight = co_await object.call(make);
    CHECK(*eight == 8);
    auto refer = &witness::value;
    std::reference_wrapper<int> same = co_await object.call(refer);
    CHECK(&same.get() == &value.get());
  });
}

TEST_CASE("a call that is cancelled while it waits leaves the queue and never runs") {
  thread_bound<witness> object(make_witness);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    held_open body;
    child_task first(executor, [&]() -> awaitable<void> { co_await object.call(std::ref(body)); });
    co_await yield_to_loop();
    body.running.wait();
    int ran = 0;
    auto count = [&](witness&) { ++ran; };
    std::vector<child_task> calls;
    for (int i = 0; i < 500; ++i) calls.emplace_back(executor, [&] { return object.call(count); });
    co_await yield_to_loop();
    CHECK(object.stats().queued == 500);
    for (std::size_t i = 0; i < 500; ++i)
      if (i % 100 != 3) calls[i].cancel();
    int cancelled = 0;
    for (std::size_t i = 0; i < 500; ++i)
      if (i % 100 != 3) {
        const bool ended = co_await ends_cancelled(calls[i]);
        cancelled += ended;
      }
    CHECK(cancelled == 495);
    CHECK(object.stats().queued == 5);
    body.released.open();
    co_await first.join();
    for (std::size_t i = 3; i < 500; i += 100) co_await calls[i].join();
    CHECK(ran == 5);
  });
}

TEST_CASE("a running call answers cancellation as its policy says") {
  thread_bound<witness> object(make_witness);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    SUBCASE("wait, with a stop_token: the callable is asked to stop, and its result arrives") {
      gate running;
      bool result = false;
      auto body = [&](std::stop_token stop, witness&) {
        running.open();
        while (!stop.stop_requested()) std::this_thread::yield();
        return true;
      };
      child_task call(executor, [&]() -> awaitable<void> {
        co_await asio::this_coro::throw_if_cancelled(false);
        result = co_await object.call(body);
      });
      co_await yield_to_loop();
      running.wait();
      call.cancel();
      co_await call.join();
      CHECK(result);
    }
    SUBCASE(
        "abandon: the call ends at once, the callable runs on, counted, and the next one waits for "
        "it") {
      held_open body;
      child_task call(executor, [&]() -> awaitable<void> {
        co_await object.call(std::ref(body),
                             {.on_cancel = cancel_policy::abandon, .name = "the slow one"});
      });
      co_await yield_to_loop();
      body.running.wait();
      call.cancel();
      const bool cancelled = co_await ends_cancelled(call);
      CHECK(cancelled);
      CHECK(object.stats().abandoned == 1);
      CHECK(object.stats().busy);
      CHECK(object.stats().running == "the slow one");
      child_task next(executor,
                      [&]() -> awaitable<void> { co_await object.call(&witness::touch); });
      co_await yield_to_loop();
      CHECK(object.stats().queued == 1);
      body.released.open();
      co_await next.join();
      const bool idle = co_await comes_true_on_loop([&] { return !object.stats().busy; });
      CHECK(idle);
    }
    SUBCASE("interrupt: the interruptor is called while it runs") {
      gate running, interrupted;
      const std::function<void()> interruptor = [&] { interrupted.open(); };
      auto body = [&](witness&) {
        running.open();
        interrupted.wait();
      };
      child_task call(executor, [&]() -> awaitable<void> {
        co_await asio::this_coro::throw_if_cancelled(false);
        co_await object.call(body,
                             {.on_cancel = cancel_policy::interrupt, .interruptor = &interruptor});
      });
      co_await yield_to_loop();
      running.wait();
      call.cancel();
      co_await call.join();
      CHECK(interrupted.is_open());
    }
  });
}

TEST_CASE("call_blocking is refused on a thread that runs a loop, before anything happens") {
  thread_bound<witness> object(make_witness);
  bool ran = false;
  run_async_root([&]() -> awaitable<void> {
    const auto code = code_of([&] { object.call_blocking([&](witness&) { ran = true; }); });
    CHECK(code == errc::running_loop);
    co_return;
  });
  CHECK_FALSE(ran);
}

TEST_CASE("a thread that is blocked in call_blocking serves its chain meanwhile") {
  thread_bound<witness> object(make_witness);
  long nested_on = 0;
  object.call_blocking([&](witness&) { nested_on = async_to_sync(sensitive_thread)(); });
  CHECK(nested_on == kernel_thread_id());
}

TEST_CASE(
    "call_blocking in a callable of a coroutine: cancellation of that coroutine's operation "
    "reaches the call") {
  thread_bound<witness> object(make_witness);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running;
    auto obeys = [&](std::stop_token stop, witness&) {
      running.open();
      while (!stop.stop_requested()) std::this_thread::yield();
    };
    auto block = sync_to_async([&] { object.call_blocking(obeys); });
    child_task call(executor, [&]() -> awaitable<void> {
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await block();
    });
    co_await yield_to_loop();
    // The call goes by way of this loop, so the loop has to turn.
    const bool began = co_await comes_true_on_loop([&] { return running.is_open(); });
    CHECK(began);
    call.cancel();
    co_await call.join();
  });
}

namespace {

/// A calls B, B calls A, as deep as asked; every step on its own object's thread.
struct ping_pong {
  thread_bound<witness> a{make_witness}, b{make_witness};
  long a_thread = a.call_blocking(&witness::touch), b_thread = b.call_blocking(&witness::touch);
  int steps = 0;

  void in_a(int levels) {
    CHECK(kernel_thread_id() == a_thread);
    ++steps;
    if (levels > 0) b.call_blocking([&](witness&) { in_b(levels - 1); });
  }
  void in_b(int levels) {
    CHECK(kernel_thread_id() == b_thread);
    ++steps;
    if (levels > 0) a.call_blocking([&](witness&) { in_a(levels - 1); });
  }
};

}  // namespace

TEST_CASE(
    "reentry: A calls B, and B calls A, which is blocked in the call of B: it runs below, on A's "
    "thread") {
  ping_pong objects;
  CHECK(objects.a_thread != objects.b_thread);
  SUBCASE("from a plain thread") {
    objects.a.call_blocking([&](witness&) { objects.in_a(20); });
  }
  SUBCASE("from a coroutine") {
    run_async_root([&]() -> awaitable<void> {
      auto body = [&](witness&) { objects.in_a(20); };
      co_await objects.a.call(body);
    });
  }
  SUBCASE("from a callable on a pool of one worker") {
    worker_pool one({.soft_limit = 1, .hard_limit = 1});
    auto call = sync_to_async([&] { objects.a.call_blocking([&](witness&) { objects.in_a(20); }); },
                              {.pool = &one});
    async_to_sync(std::ref(call))();
  }
  CHECK(objects.steps == 21);
}

TEST_CASE("reentry: A calls A, directly and by way of a coroutine and a worker") {
  thread_bound<witness> a(make_witness);
  const long own = a.call_blocking(&witness::touch);
  int depth = 0;
  a.call_blocking([&](witness& outer) {
    const int got = a.call_blocking([&](witness& inner) {
      CHECK(&inner == &outer);
      CHECK(kernel_thread_id() == own);
      ++depth;
      return 42;
    });
    CHECK(got == 42);
    auto with_token = [&](std::stop_token, witness&) { ++depth; };
    a.call_blocking(with_token);
    auto by_coroutine = [&]() -> awaitable<void> {
      const long direct = co_await a.call(&witness::touch);
      CHECK(direct == own);
      auto on_worker = sync_to_async([&] { return a.call_blocking(&witness::touch); });
      const long indirect = co_await on_worker();
      CHECK(indirect == own);
      ++depth;
    };
    async_to_sync(std::ref(by_coroutine))();
  });
  CHECK(depth == 3);
}

TEST_CASE(
    "portal_cycle: two chains that hold an object each and call the other's: one gets "
    "deadlock_error, the other goes on") {
  wait_reports reports;
  thread_bound<witness> a(make_witness), b(make_witness);
  std::latch both_hold(2);
  std::atomic<int> refused{0}, completed{0};
  const auto hold_and_call = [&](thread_bound<witness>& mine, thread_bound<witness>& other) {
    try {
      mine.call_blocking([&](witness&) {
        both_hold.arrive_and_wait();
        other.call_blocking(&witness::touch);
      });
      ++completed;
    } catch (const bothworlds::deadlock_error&) {
      ++refused;
    }
  };
  std::thread second([&] { hold_and_call(b, a); });
  hold_and_call(a, b);
  second.join();
  CHECK(refused == 1);
  CHECK(completed == 1);
  CHECK(reports.count(bothworlds::wait_report::kind::deadlock) == 1);
}

TEST_CASE("reentry: a call of another chain never runs below one that is blocked") {
  thread_bound<witness> a(make_witness);
  std::vector<std::string> order;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event blocked(executor), go_on(executor);
    auto wait = [&]() -> awaitable<void> {
      blocked.set();
      co_await go_on.wait();
    };
    auto blocks = [&](witness&) {
      async_to_sync(std::ref(wait))();
      order.push_back("first");
    };
    auto stranger = [&](witness&) { order.push_back("stranger"); };
    child_task first(executor, [&] { return a.call(blocks); });
    co_await blocked.wait();
    child_task other(executor, [&] { return a.call(stranger); });
    for (int i = 0; i < 3; ++i) co_await yield_to_loop();
    CHECK(a.stats().queued == 1);
    CHECK(order.empty());
    go_on.set();
    co_await first.join();
    co_await other.join();
  });
  CHECK(order == std::vector<std::string>{"first", "stranger"});
}

TEST_CASE(
    "close: what is queued runs, then the object is destroyed on its thread, and nothing is called "
    "any more") {
  std::vector<long> seen;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto make = [&] { return witness(&seen); };
    thread_bound<witness> object(make);
    held_open body;
    child_task running(executor,
                       [&]() -> awaitable<void> { co_await object.call(std::ref(body)); });
    co_await yield_to_loop();
    body.running.wait();
    child_task queued(executor,
                      [&]() -> awaitable<void> { co_await object.call(&witness::touch); });
    co_await yield_to_loop();
    child_task closing(executor, [&] { return object.close(); });
    child_task impatient(executor, [&] { return object.close(); });
    co_await yield_to_loop();
    boost::system::error_code late;
    try {
      co_await object.call(&witness::touch);
    } catch (const bothworlds::error& e) {
      late = e.code();
    }
    CHECK(late == errc::pool_closed);
    impatient.cancel();
    const bool cancelled = co_await ends_cancelled(impatient);
    CHECK(cancelled);
    CHECK_FALSE(closing.done());
    body.released.open();
    co_await running.join();
    co_await queued.join();
    co_await closing.join();
    CHECK_FALSE(object.stats().busy);
    CHECK(seen.size() == 3);  // made, touched, destroyed
    CHECK(seen.front() == seen.back());
    co_await object.close();
  });
}

TEST_CASE("close below a call that is running on the object is refused") {
  thread_bound<witness> object(make_witness);
  boost::system::error_code code;
  std::string report;
  object.call_blocking([&](witness&) {
    auto close = [&]() -> awaitable<void> { co_await object.close(); };
    try {
      async_to_sync(std::ref(close))();
    } catch (const bothworlds::misuse_error& e) {
      code = e.code();
      report = e.report();
    }
  });
  CHECK(code == errc::would_deadlock);
  CHECK(contains(report, "thread_bound_test.cpp:"));
  CHECK(object.call_blocking(&witness::touch) != 0);
}

TEST_CASE("the destructor lets queued calls run and destroys the object, all within its patience") {
  std::vector<long> seen;
  bool ran = false;
  asio::io_context loop;
  {
    thread_bound<witness> object([&] { return witness(&seen); });
    auto body = [&](witness&) { ran = true; };
    asio::co_spawn(loop, object.call(body), asio::detached);
    loop.poll();
  }
  CHECK(ran);
  CHECK(seen.size() == 2);
  loop.restart();
  loop.run();
}

TEST_CASE(
    "the destructor leaves a busy thread behind: counted, reported, and ended when it is free") {
  gate running, released;
  std::vector<long> seen;
  asio::io_context loop;
  const auto before = count_thread_bounds();
  {
    captured_stderr captured;
    {
      thread_bound<witness> object([&] { return witness(&seen); },
                                   {.patience = std::chrono::milliseconds(1)});
      auto body = [&](witness&) {
        running.open();
        released.wait();
      };
      asio::co_spawn(loop, object.call(body, {.name = "the busy one"}), asio::detached);
      loop.poll();
      running.wait();
    }
    const std::string text = captured.text();
    CHECK(contains(text, "left behind"));
    CHECK(contains(text, "thread_bound_test.cpp:"));
    CHECK(contains(text, "the busy one"));
  }
  CHECK(count_thread_bounds().left_behind == before.left_behind + 1);
  CHECK(count_thread_bounds().open == before.open + 1);
  released.open();
  CHECK(comes_true([&] { return count_thread_bounds().open == before.open; }));
  CHECK(count_thread_bounds().left_behind == before.left_behind);
  CHECK(seen.size() == 2);
  loop.restart();
  loop.run();
}

TEST_CASE(
    "a handle that is destroyed on the object's own thread, or below its call, waits for nothing") {
  std::vector<long> seen;
  auto object = std::make_unique<thread_bound<witness>>(
      [&] { return witness(&seen); }, thread_bound_options{.patience = std::chrono::hours(1)});
  const auto before = count_thread_bounds();
  SUBCASE("on its thread") {
    object->call_blocking([&](witness&) { object.reset(); });
  }
  SUBCASE("below its call") {
    object->call_blocking([&](witness&) {
      auto on_worker = sync_to_async([&] { object.reset(); });
      async_to_sync(std::ref(on_worker))();
    });
  }
  CHECK(comes_true([&] { return count_thread_bounds().open == before.open - 1; }));
  CHECK(seen.size() == 2);
}

TEST_CASE("threads are used again, show the object's name, and run its hooks around it") {
  std::mutex mutex;
  std::vector<std::string> events;
  const auto note = [&](const char* what) {
    std::lock_guard lock(mutex);
    events.push_back(what);
  };
  std::vector<long> threads;
  for (int i = 0; i < 5; ++i) {
    thread_bound<int> object(
        [&] {
          note("made");
          return 1;
        },
        {.name = "conn-" + std::to_string(i),
         .on_thread_start = [&] { note("start"); },
         .on_thread_stop =
             [&] {
               note("stop");
               throw std::runtime_error("a stop hook that throws is reported");
             }});
    const long id = object.call_blocking([](int&) { return kernel_thread_id(); });
    CHECK(thread_name(id) == "conn-" + std::to_string(i));
    threads.push_back(id);
    run_async_root([&]() -> awaitable<void> { co_await object.close(); });
    // It goes back to where it came from, and waits there.
    CHECK(comes_true(
        [&] { return thread_name(id).starts_with("bothworlds:") && thread_sleeps(id); }));
  }
  CHECK(threads == std::vector<long>(5, threads.front()));
  const std::vector<std::string> once{"start", "made", "stop"};
  REQUIRE(events.size() == 15);
  for (std::size_t i = 0; i < 15; ++i) CHECK(events[i] == once[i % 3]);
}

TEST_CASE("a limiter counts the calls of thread_bound objects, and a chain's only once") {
  capacity_limiter one(1);
  thread_bound<witness> a(make_witness), b(make_witness);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    held_open body;
    child_task first(
        executor, [&]() -> awaitable<void> { co_await a.call(std::ref(body), {.limiter = &one}); });
    co_await yield_to_loop();
    body.running.wait();
    child_task second(executor, [&]() -> awaitable<void> {
      co_await b.call(&witness::touch, {.limiter = &one});
    });
    co_await yield_to_loop();
    CHECK(one.stats().queued == 1);
    CHECK(b.stats().queued == 0);
    body.released.open();
    co_await first.join();
    co_await second.join();
    auto nests = [&](witness&) {
      auto inner = [&]() -> awaitable<long> {
        co_return co_await a.call(&witness::touch, {.limiter = &one});
      };
      return async_to_sync(std::ref(inner))();
    };
    const long nested_on = co_await a.call(nests, {.limiter = &one});
    CHECK(nested_on != 0);
  });
  CHECK(one.stats().borrowed == 0);
}

TEST_CASE("options that name another thread are refused") {
  thread_bound<witness> object(make_witness);
  worker_pool pool;
  const asio::any_io_executor executor = pool.get_executor();
  CHECK(code_of([&] { (void)object.call(&witness::touch, {.thread_sensitive = true}); }) ==
        errc::invalid_options);
  CHECK(code_of([&] { (void)object.call(&witness::touch, {.pool = &pool}); }) ==
        errc::invalid_options);
  CHECK(code_of([&] { (void)object.call(&witness::touch, {.executor = &executor}); }) ==
        errc::invalid_options);
}

TEST_CASE(
    "make() may block in a bridge, whose thread-sensitive calls come back to it; it cannot call "
    "the object") {
  std::optional<thread_bound<witness>> object;
  gate assigned;
  boost::system::error_code code;
  long made_on = 0, sensitive_on = 0;
  object.emplace([&] {
    made_on = kernel_thread_id();
    sensitive_on = async_to_sync(sensitive_thread)();
    assigned.wait();
    code = code_of([&] { object->call_blocking(&witness::touch); });
    return witness();
  });
  assigned.open();
  CHECK(object->call_blocking(&witness::touch) == made_on);
  CHECK(sensitive_on == made_on);
  CHECK(code == errc::would_deadlock);
}

TEST_CASE("a loop that is destroyed takes its calls out of the queue") {
  thread_bound<witness> object(make_witness);
  bool ran = false;
  held_open body;
  asio::io_context loop;
  asio::co_spawn(loop, object.call(std::ref(body)), asio::detached);
  loop.poll();
  body.running.wait();
  {
    asio::io_context doomed;
    auto call = [&](witness&) { ran = true; };
    for (int i = 0; i < 3; ++i) asio::co_spawn(doomed, object.call(call), asio::detached);
    doomed.poll();
    CHECK(object.stats().queued == 3);
  }
  CHECK(object.stats().queued == 0);
  body.released.open();
  loop.restart();
  loop.run();
  CHECK_FALSE(ran);
}

namespace {

/// Leaves an object behind in the way that is told; the process ends right after.
void forget(const std::string& how) {
  static held_open body;
  static asio::io_context loop;
  const auto occupy = [](auto& object) {
    asio::co_spawn(loop, object.call(std::ref(body)), asio::detached);
    loop.poll();
    body.running.wait();
  };
  if (how.starts_with("leaked")) {
    static auto* const leaked = new thread_bound<witness>(make_witness);
    std::fprintf(stderr, "expected at line %d\n", __LINE__ - 1);
    leaked->call_blocking(&witness::touch);
    if (how.ends_with("busy")) occupy(*leaked);
  } else {
    const thread_bound_options options{.patience = std::chrono::milliseconds(100)};
    static thread_bound<witness> forgotten(make_witness, options);
    std::fprintf(stderr, "expected at line %d\n", __LINE__ - 1);
    forgotten.call_blocking(&witness::touch);
    if (how.ends_with("busy")) occupy(forgotten);
  }
}

/// What this very case writes when it is run in a process of its own, to forget an object.
std::string output_of_forgetting(const char* how, int& code) {
  const std::string command = std::string("BOTHWORLDS_TEST_FORGETS='") + how + "' /proc/" +
                              std::to_string(::getpid()) +
                              "/exe '--test-case=bound_object_never_closed*' 2>&1";
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  std::string text;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text += static_cast<char>(c);
  code = ::pclose(pipe);
  return text;
}

}  // namespace

TEST_CASE(
    "bound_object_never_closed: the process exits, with a warning that names where it was made") {
  if (const char* how = std::getenv("BOTHWORLDS_TEST_FORGETS")) return forget(how);
  int code = -1;
  std::string text;
  SUBCASE("leaked") {
    text = output_of_forgetting("leaked", code);
    CHECK(contains(text, "never closed"));
  }
  SUBCASE("leaked, and busy for ever") {
    text = output_of_forgetting("leaked, busy", code);
    CHECK(contains(text, "never closed"));
    CHECK(contains(text, "  busy "));
  }
  SUBCASE("static") {
    text = output_of_forgetting("static", code);
    CHECK(contains(text, "only now that the process ends"));
    CHECK_FALSE(contains(text, "left behind"));
  }
  SUBCASE("static, and busy for ever") {
    text = output_of_forgetting("static, busy", code);
    CHECK(contains(text, "left behind"));
  }
  CHECK(code == 0);
  const std::string mark = "expected at line ";
  const auto at = text.find(mark);
  REQUIRE(at != std::string::npos);
  const std::string line = text.substr(at + mark.size(), text.find('\n', at) - at - mark.size());
  CHECK(contains(text, "thread_bound_test.cpp:" + line));
}

TEST_CASE(
    "fork_with_warm_pool: an object of the parent's answers with forked_child, and its handle goes "
    "without a wait" SKIPPED_UNDER_TSAN) {
  auto object = std::make_unique<thread_bound<witness>>(make_witness);
  object->call_blocking(&witness::touch);
  CHECK(exit_code_of_child([&] {
          const auto code = code_of([&] { object->call_blocking(&witness::touch); });
          object.reset();
          thread_bound<witness> own(make_witness);
          return code == errc::forked_child && own.call_blocking(&witness::touch) != 0 ? 0 : 1;
        }) == 0);
  CHECK(object->call_blocking(&witness::touch) != 0);
}
