// SPDX-License-Identifier: BSL-1.0

#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

using namespace bothworlds::testing;
using bothworlds::errc;

namespace {

constexpr errc all_codes[] = {errc::running_loop, errc::would_deadlock, errc::loop_stopped,
                              errc::pool_closed,  errc::queue_full,     errc::timed_out,
                              errc::no_context,   errc::wrong_thread,   errc::forked_child,
                              errc::task_failed,  errc::invalid_options};

}  // namespace

TEST_CASE("every code has a message of its own in the category \"bothworlds\"") {
  std::set<std::string> messages;
  for (errc code : all_codes) {
    const boost::system::error_code made = code;
    CHECK(made == make_error_code(code));
    CHECK(made.failed());
    CHECK(made.category() == bothworlds::error_category());
    CHECK_FALSE(made.message().empty());
    messages.insert(made.message());
  }
  CHECK(messages.size() == std::size(all_codes));
  CHECK(std::string_view(bothworlds::error_category().name()) == "bothworlds");
  CHECK(static_cast<int>(errc::running_loop) == 1);
}

TEST_CASE("a code compares as a std::error_code too") {
  const boost::system::error_code made = errc::loop_stopped;
  const std::error_code standard = made;
  CHECK(standard.value() == static_cast<int>(errc::loop_stopped));
  CHECK(std::string_view(standard.category().name()).find("bothworlds") != std::string_view::npos);
  CHECK(standard.message() == made.message());
}

TEST_CASE("an unknown value still has a message") {
  const boost::system::error_code unknown(4711, bothworlds::error_category());
  CHECK_FALSE(unknown.message().empty());
}

TEST_CASE("every error is a boost::system::system_error, and misuse and deadlock are errors") {
  CHECK(std::is_base_of_v<boost::system::system_error, bothworlds::error>);
  CHECK(std::is_base_of_v<bothworlds::error, bothworlds::misuse_error>);
  CHECK(std::is_base_of_v<bothworlds::error, bothworlds::deadlock_error>);
  CHECK(std::is_nothrow_copy_constructible_v<bothworlds::misuse_error>);
}

TEST_CASE("an error carries its code, the place, and a report that is never empty") {
  const auto here = std::source_location::current();
  const bothworlds::error bare(errc::timed_out, here, "summary of it");
  CHECK(bare.code() == errc::timed_out);
  CHECK(bare.where().line() == here.line());
  CHECK(bare.where().file_name() == std::string_view(here.file_name()));
  CHECK(std::string_view(bare.what()).find("summary of it") != std::string_view::npos);
  CHECK_FALSE(bare.report().empty());

  const bothworlds::error advised(errc::timed_out, here, "summary of it", "what to do instead");
  CHECK(advised.report().find("what to do instead") != std::string::npos);
  CHECK(advised.report().find("error_test.cpp") != std::string::npos);
  CHECK(advised.report().back() == '\n');
}

TEST_CASE("a copy outlives what it was copied from") {
  auto original = std::make_unique<bothworlds::misuse_error>(
      errc::running_loop, std::source_location::current(), "summary of it", "what to do instead");
  const bothworlds::misuse_error copy(*original);
  const std::string report = original->report();
  original.reset();
  CHECK(copy.report() == report);
  CHECK(copy.code() == errc::running_loop);
  CHECK(std::string_view(copy.what()).find("summary of it") != std::string_view::npos);
}

TEST_CASE("a refused call names the place of its wrap, and what to write instead") {
  run_async_root([]() -> awaitable<void> {
    auto coroutine = []() -> awaitable<void> { co_return; };
    const unsigned line = std::source_location::current().line() + 1;
    auto blocking = bothworlds::async_to_sync(coroutine, {.name = "the refused call"});
    bool refused = false;
    try {
      blocking();
    } catch (const bothworlds::misuse_error& e) {
      refused = true;
      CHECK(e.code() == errc::running_loop);
      CHECK(e.where().line() == line);
      CHECK(std::string_view(e.where().file_name()).ends_with("error_test.cpp"));
      CHECK(e.report().find("the refused call") != std::string::npos);
      CHECK(e.report().find("error_test.cpp") != std::string::npos);
      // An awaitable can be awaited: the report says so.
      CHECK(e.report().find("co_await") != std::string::npos);
    }
    CHECK(refused);
    co_return;
  });
}

TEST_CASE("invalid options name the place of their wrap") {
  const asio::any_io_executor empty;
  const unsigned line = std::source_location::current().line() + 3;
  bool refused = false;
  try {
    auto call = bothworlds::sync_to_async([] {}, {.executor = &empty});
    run_async_root([&] { return call(); });
  } catch (const bothworlds::misuse_error& e) {
    refused = true;
    CHECK(e.code() == errc::invalid_options);
    CHECK(e.where().line() == line);
    CHECK_FALSE(e.report().empty());
  }
  CHECK(refused);
}
