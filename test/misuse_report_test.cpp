// SPDX-License-Identifier: BSL-1.0
//
// What nobody else would ever hear of is written to stderr, with the place where it was made.

#include "support/call_tools.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task_group.hpp>
#include <bothworlds/thread_sensitive.hpp>

#include <boost/asio/detached.hpp>
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>

#include <semaphore.h>
#include <unistd.h>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::create_task;
using bothworlds::gather;
using bothworlds::sync_to_async;
using bothworlds::task;
using bothworlds::task_group;
using bothworlds::with_task_group;
using bothworlds::with_timeout;

namespace {

// Before the library reads it.
const int debugging = ::setenv("BOTHWORLDS_DEBUG", "1", 1);

/// What is written to stderr while `body` runs.
template <class F>
std::string said_during(F body) {
  std::fflush(stderr);
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(::fileno(file), STDERR_FILENO);
  body();
  std::fflush(stderr);
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  std::rewind(file);
  std::string said;
  char text[1024];
  while (const std::size_t got = std::fread(text, 1, sizeof text, file)) said.append(text, got);
  std::fclose(file);
  return said;
}

/// Within that body.
std::string said_so_far() {
  std::string said;
  char text[1024];
  for (::ssize_t got;
       (got = ::pread(STDERR_FILENO, text, sizeof text, static_cast<::off_t>(said.size()))) > 0;)
    said.append(text, static_cast<std::size_t>(got));
  return said;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Something of what this is about. A machine that stalls may have a blocked loop to report at any
/// time.
bool complains(const std::string& said) {
  return has(said, "never awaited") || has(said, "nobody joined") || has(said, "left work behind");
}

/// "file:line" of `lines_above` lines above the call.
std::string place(unsigned lines_above,
                  std::source_location here = std::source_location::current()) {
  return std::string(here.file_name()) + ":" + std::to_string(here.line() - lines_above);
}

awaitable<void> failing() {
  co_await yield_to_loop();
  throw std::runtime_error("out of lamb");
}

}  // namespace

TEST_CASE(
    "never_awaited: a call that is made and dropped is reported with the place where it was made") {
  REQUIRE(debugging == 0);
  std::string where;
  const std::string said = said_during([&] {
    auto call = sync_to_async([] {});
    where = place(1);
    {
      const auto dropped = call();
    }
  });
  CHECK(has(said, "never awaited"));
  CHECK(has(said, where));
}

TEST_CASE("never_awaited: tasks, groups, gather, timeouts and contexts, too") {
  const auto reported = [](auto make) {
    return has(said_during([&] { const auto dropped = make(); }), __FILE__ ":");
  };
  CHECK(reported([] { return create_task(yield_to_loop()); }));
  CHECK(reported([] { return with_timeout(std::chrono::hours(1), yield_to_loop()); }));
  CHECK(reported([] { return gather(yield_to_loop(), yield_to_loop()); }));
  CHECK(reported([] { return with_task_group([](task_group&) { return yield_to_loop(); }); }));
  CHECK(reported([] { return bothworlds::with_thread_sensitive_context(yield_to_loop); }));
  CHECK(reported([] { return with_context(bothworlds::context::current(), yield_to_loop()); }));
}

TEST_CASE("what is awaited is not reported, whether it returns, throws or is cancelled") {
  const std::string said = said_during([] {
    async_to_sync([]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      auto fails = sync_to_async([] { throw std::runtime_error("no"); });
      try {
        co_await fails();
      } catch (const std::runtime_error&) {
        // As it should.
      }
      co_await gather(answer(), answer());
      auto body = [](task_group& group) -> awaitable<void> {
        group.spawn(wait_for_ever());
        co_await yield_to_loop();
        group.cancel();
      };
      co_await with_task_group(body);
      co_await with_timeout(std::chrono::hours(1), answer());
      child_task waits(executor, [] { return wait_for_ever(); });
      co_await yield_to_loop();
      waits.cancel();
      const bool aborted = co_await ends_cancelled(waits);
      CHECK(aborted);
    })();
  });
  CHECK_FALSE(complains(said));
}

TEST_CASE(
    "never_retrieved: a task that failed and was never joined is reported with the error and its "
    "place") {
  std::string where;
  const std::string said = said_during([&] {
    async_to_sync([&]() -> awaitable<void> {
      co_await create_task(failing());
      where = place(1);
    })();
  });
  CHECK(has(said, "nobody joined"));
  CHECK(has(said, "out of lamb"));
  CHECK(has(said, where));
}

TEST_CASE(
    "never_retrieved: a task that was joined, or cancelled, or is a group's, is not reported") {
  const std::string said = said_during([] {
    async_to_sync([]() -> awaitable<void> {
      task<void> joined = co_await create_task(failing());
      try {
        co_await joined.join();
      } catch (const std::runtime_error&) {
        // Seen.
      }
      task<void> cancelled = co_await create_task(wait_for_ever());
      cancelled.cancel();
      auto body = [](task_group& group) -> awaitable<void> {
        group.spawn(failing());
        co_return;
      };
      try {
        co_await with_task_group(body);
      } catch (const std::runtime_error&) {
        // Seen.
      }
    })();
  });
  CHECK_FALSE(complains(said));
}

TEST_CASE("a call that leaves work behind on its loop is reported; what it has waited for is not") {
  std::optional<loop_event> go;
  std::string where;
  bool ended = false;
  auto child = [&]() -> awaitable<void> {
    co_await go->wait();
    ended = true;
  };
  const auto call = [&](bool waits) {
    return said_during([&] {
      auto body = [&]() -> awaitable<void> {
        auto executor = co_await asio::this_coro::executor;
        go.emplace(executor);
        child_task left(executor, std::ref(child));
        if (!waits) co_return;
        go->set();
        co_await left.join();
        // Its last step.
        co_await yield_to_loop();
      };
      async_to_sync(std::ref(body))();
      where = place(1);
    });
  };
  CHECK_FALSE(complains(call(true)));
  const std::string said = call(false);
  CHECK(has(said, "left work behind"));
  CHECK(has(said, where));
  async_to_sync([&]() -> awaitable<void> {
    ended = false;
    go->set();
    const bool gone = co_await comes_true_on_loop([&] { return ended; });
    CHECK(gone);
  })();
}

TEST_CASE("what a spawned coroutine has left behind when it ended is reported with its place") {
  std::optional<loop_event> go;
  std::string where;
  bool ended = false;
  auto left = [&]() -> awaitable<void> {
    co_await go->wait();
    ended = true;
  };
  auto spawned = [&]() -> awaitable<void> {
    asio::co_spawn(co_await asio::this_coro::executor, std::ref(left), asio::detached);
  };
  const auto call = [&](bool waits) {
    return said_during([&] {
      auto body = [&]() -> awaitable<void> {
        const auto executor = co_await asio::this_coro::executor;
        go.emplace(executor);
        bothworlds::spawn(executor, std::ref(spawned), asio::detached);
        where = place(1);
        co_await yield_to_loop();
        co_await yield_to_loop();
        if (waits) go->set();
        const bool over = !waits || co_await comes_true_on_loop([&] { return ended; });
        CHECK(over);
      };
      async_to_sync(std::ref(body))();
    });
  };
  CHECK_FALSE(complains(call(true)));
  ended = false;
  const std::string said = call(false);
  CHECK(has(said, "left work behind"));
  CHECK(has(said, where));
}

TEST_CASE(
    "blocked_loop: a blocking call inside a coroutine is reported with the line that blocks") {
  // Beside it, and for as long: a loop that has nothing to do, and blocking code on the thread of a
  // loop that has been handed over. Neither is to blame.
  gate enough;
  const auto wait_beside = [&](const bothworlds::sync_options& options) {
    return std::thread([&enough, options] {
      async_to_sync([&]() -> awaitable<void> {
        auto wait = sync_to_async([&] { enough.wait(); }, options);
        co_await wait();
      })();
    });
  };
  std::thread idle_loop = wait_beside({});
  std::thread handed_over = wait_beside({.thread_sensitive = true});
  // In its first step, and in a later one.
  for (const bool later : {false, true}) {
    std::string where;
    const std::string said = said_during([&] {
      // Not a read(): the ThreadSanitizer of g++ 12 keeps signals back until that has returned.
      ::sem_t blocks;
      REQUIRE(::sem_init(&blocks, 0, 0) == 0);
      std::thread releases([&] {
        comes_true([] { return has(said_so_far(), "misuse_report_test.cpp:"); });
        CHECK(::sem_post(&blocks) == 0);
      });
      async_to_sync([&]() -> awaitable<void> {
        if (later) co_await yield_to_loop();
        const int failed = ::sem_wait(&blocks);
        where = place(1);
        CHECK(failed == 0);
      })();
      releases.join();
      ::sem_destroy(&blocks);
    });
    CAPTURE(later);
    INFO(said);
    CHECK(has(said, "has been in one step"));
    CHECK(has(said, where.substr(where.rfind('/'))));
    CHECK(has(said, "goes on, after"));
    CHECK(said.find("has been in one step") == said.rfind("has been in one step"));
  }
  enough.open();
  handed_over.join();
  idle_loop.join();
}

TEST_CASE("errors of a group that nothing can carry are reported, all but the first") {
  const std::string said = said_during([] {
    run_async_root([]() -> awaitable<void> {
      auto second = []() -> awaitable<void> {
        try {
          co_await wait_for_ever();
        } catch (const boost::system::system_error&) {
          throw std::runtime_error("out of salad");
        }
      };
      try {
        co_await gather(failing(), second());
      } catch (const std::runtime_error& e) {
        CHECK(std::string(e.what()) == "out of lamb");
      }
    });
  });
  CHECK(has(said, "out of salad"));
  CHECK(!has(said, "out of lamb"));
}
