// SPDX-License-Identifier: BSL-1.0
//
// Walks the rows of a blocking query from a coroutine. SQLite steps on one worker thread, which
// also closes the statement; the loop goes on meanwhile.

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/stream.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include <sqlite3.h>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bothworlds::async_to_sync;
using bothworlds::to_async_stream;

using database = std::shared_ptr<sqlite3>;

database open_harbour() {
  sqlite3* handle = nullptr;
  if (sqlite3_open(":memory:", &handle) != SQLITE_OK)
    throw std::runtime_error("cannot open a database in memory");
  database harbour(handle, sqlite3_close);
  // So many ships that putting them in order takes a moment.
  sqlite3_exec(handle,
               "CREATE TABLE ships AS"
               " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
               " SELECT 'ship ' || i AS name, (i * 7919) % 1000003 AS tons FROM n",
               nullptr, nullptr, nullptr);
  return harbour;
}

//! [cursor]
// Blocking code, as SQLite has it: each call steps to the next row, an empty result is the end.
class row_cursor {
public:
  struct row {
    std::string name;
    int tons;
  };

  row_cursor(database from, const char* query)
      : database_(std::move(from)), statement_(nullptr, sqlite3_finalize) {
    sqlite3_stmt* prepared = nullptr;
    if (sqlite3_prepare_v2(database_.get(), query, -1, &prepared, nullptr) != SQLITE_OK)
      throw std::runtime_error(sqlite3_errmsg(database_.get()));
    statement_.reset(prepared);
  }

  std::optional<row> operator()() {
    if (sqlite3_step(statement_.get()) != SQLITE_ROW) return {};
    const auto* name = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), 0));
    return row{name, sqlite3_column_int(statement_.get(), 1)};
  }

private:
  database database_;
  std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement_;
};
//! [cursor]

asio::awaitable<void> count_ticks(int& ticks, const bool& enough) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  while (!enough) {
    timer.expires_after(1ms);
    co_await timer.async_wait(asio::use_awaitable);
    ++ticks;
  }
}

//! [walk]
asio::awaitable<void> list_the_heaviest(database harbour) {
  auto rows = to_async_stream(
      row_cursor(std::move(harbour), "SELECT name, tons FROM ships ORDER BY tons DESC"));
  for (int shown = 0; shown < 3; ++shown) {
    const auto row = co_await rows.next();
    std::cout << row->name << ": " << row->tons << " tons" << std::endl;
  }
  co_await rows.close();  // the other 299,997 are not fetched
}
//! [walk]

int main() {
  const database harbour = open_harbour();
  async_to_sync([&]() -> asio::awaitable<void> {
    int ticks = 0;
    bool enough = false;
    asio::co_spawn(co_await asio::this_coro::executor, count_ticks(ticks, enough), asio::detached);
    co_await list_the_heaviest(harbour);
    enough = true;
    std::cout << (ticks > 0 ? "The clock ticked meanwhile." : "The loop stood still!") << std::endl;
    // The clock looks at `enough` once more.
    asio::steady_timer last_tick(co_await asio::this_coro::executor, 10ms);
    co_await last_tick.async_wait(asio::use_awaitable);
  })();
}
