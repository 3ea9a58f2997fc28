// SPDX-License-Identifier: BSL-1.0
//
// run: the way into the async world, and out of it by a signal. What a signal does is seen in a
// child process.

#include "support/call_tools.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/run.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task_group.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <stdexcept>
#include <stop_token>
#include <string>

#include <unistd.h>

using namespace bothworlds::testing;
using bothworlds::create_task;
using bothworlds::errc;
using bothworlds::interrupted;
using bothworlds::run;
using bothworlds::run_options;
using bothworlds::sync_to_async;

namespace {

/// Waits until it is cancelled; then cleans up, which takes a moment.
awaitable<void> cleans_up(bool& clean) {
  try {
    co_await wait_for_ever();
  } catch (const boost::system::system_error&) {
    clean = false;
  }
  co_await asio::this_coro::reset_cancellation_state();
  co_await yield_to_loop();
  auto close = sync_to_async([&] { clean = true; });
  co_await close();
}

/// The exit code and standard error of a child process that runs `body`.
struct child_end {
  int code = 0;
  std::string said;
};
template <class F>
child_end end_of_child(F body) {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  child_end end;
  end.code = exit_code_of_child([&] {
    ::close(pipe[0]);
    ::dup2(pipe[1], STDERR_FILENO);
    return body();
  });
  ::close(pipe[1]);
  char text[4096];
  for (ssize_t got = 0; (got = ::read(pipe[0], text, sizeof text)) > 0;)
    end.said.append(text, static_cast<std::size_t>(got));
  ::close(pipe[0]);
  return end;
}

}  // namespace

TEST_CASE("run gives the result of main, and throws what it throws") {
  CHECK(run(answer) == 42);
  CHECK(run(answer, {.handle_signals = false}) == 42);
  run([]() -> awaitable<void> { co_return; });
  CHECK_THROWS_AS(run([]() -> awaitable<void> {
                    co_await yield_to_loop();
                    throw std::out_of_range("main");
                  }),
                  std::out_of_range);
}

TEST_CASE("run waits for the tasks that main has made") {
  int ended = 0;
  // They outlive main's frame, so what they capture is not in it.
  auto child = [&]() -> awaitable<void> {
    co_await yield_to_loop();
    ++ended;
  };
  auto nested = [&]() -> awaitable<void> { co_await create_task(child()); };
  run([&]() -> awaitable<void> {
    co_await create_task(std::ref(child));
    co_await create_task(nested());
    co_await yield_to_loop();
  });
  CHECK(ended == 2);
}

TEST_CASE("run on a thread that runs a loop is refused, and main is not touched") {
  bool touched = false;
  boost::system::error_code refused;
  run_async_root([&]() -> awaitable<void> {
    try {
      run([&]() -> awaitable<void> {
        touched = true;
        co_return;
      });
    } catch (const bothworlds::misuse_error& e) {
      refused = e.code();
    }
    co_return;
  });
  CHECK(refused == errc::running_loop);
  CHECK(!touched);
}

TEST_CASE(
    "interrupted_wait: a signal cancels main and its tasks, which clean up; then run "
    "throws" SKIPPED_UNDER_TSAN) {
  for (const int number : {SIGINT, SIGTERM}) {
    const child_end end = end_of_child([number] {
      bool main_clean = true, task_clean = true;
      try {
        run([&]() -> awaitable<void> {
          co_await create_task(cleans_up(task_clean));
          co_await yield_to_loop();
          ::kill(::getpid(), number);
          co_await cleans_up(main_clean);
        });
        return 1;
      } catch (const interrupted& e) {
        if (e.signal() != number || e.code() != asio::error::operation_aborted) return 2;
        return main_clean && task_clean ? 42 : 3;
      }
    });
    CHECK(end.code == 42);
    CHECK(end.said.empty());
  }
}

TEST_CASE(
    "a signal also ends a wait for tasks, and an error while main unwinds is not "
    "lost" SKIPPED_UNDER_TSAN) {
  CHECK(exit_code_of_child([] {
          try {
            run([]() -> awaitable<void> {
              co_await create_task(wait_for_ever());
              ::kill(::getpid(), SIGINT);
            });
            return 1;
          } catch (const interrupted&) {
            return 42;
          }
        }) == 42);
  CHECK(exit_code_of_child([] {
          try {
            run([]() -> awaitable<void> {
              ::kill(::getpid(), SIGINT);
              try {
                co_await wait_for_ever();
              } catch (const boost::system::system_error&) {
                throw std::runtime_error("while closing");
              }
            });
            return 1;
          } catch (const std::runtime_error& e) {
            return std::string(e.what()) == "while closing" ? 42 : 2;
          }
        }) == 42);
}

TEST_CASE("signals have their former handling when run has returned" SKIPPED_UNDER_TSAN) {
  CHECK(exit_code_of_child([] {
          run(answer);
          ::kill(::getpid(), SIGTERM);
          return 0;
        }) == -SIGTERM);
}

TEST_CASE(
    "ctrl_c_twice: the second signal lists what is stuck, with its place, and ends the "
    "process" SKIPPED_UNDER_TSAN) {
  const child_end end = end_of_child([] {
    gate never;
    auto stuck = sync_to_async(
        [&](std::stop_token stop) {
          gate cancelled;
          const std::stop_callback on_cancel(stop, [&] { cancelled.open(); });
          ::kill(::getpid(), SIGINT);
          cancelled.wait();
          ::kill(::getpid(), SIGINT);
          never.wait();
        },
        {.name = "a stuck query"});
    run([&]() -> awaitable<void> {
      co_await create_task(wait_for_ever());
      co_await stuck();
    });
    return 1;
  });
  CHECK(end.code == 128 + SIGINT);
  INFO(end.said);
  CHECK(end.said.find("SIGINT, after SIGINT") != std::string::npos);
  CHECK(end.said.find("a stuck query, for ") != std::string::npos);
  CHECK(end.said.find("run_test.cpp:") != std::string::npos);
  CHECK(end.said.find("\n  task ") != std::string::npos);
  CHECK(end.said.find("\n  main ") != std::string::npos);
}
