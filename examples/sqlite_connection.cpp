// SPDX-License-Identifier: BSL-1.0
//
// A database connection that only one thread may touch, used by coroutines: a transaction stays
// open while they await.

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/thread_bound.hpp>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <sqlite3.h>

namespace asio = boost::asio;
using bothworlds::async_to_sync;
using bothworlds::thread_bound;

//! [connection]
// Blocking code that knows nothing of loops. SQLite does not lock this connection, so it looks
// itself who touches it.
class connection {
public:
  explicit connection(const char* file) {
    sqlite3* handle = nullptr;
    const int code = sqlite3_open_v2(
        file, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    handle_.reset(handle);
    if (code != SQLITE_OK) throw std::runtime_error(sqlite3_errstr(code));
  }

  void execute(const char* sql) {
    check_thread();
    if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
      throw std::runtime_error(sqlite3_errmsg(handle_.get()));
  }

  // The first column of the first row.
  int number(const char* sql) {
    check_thread();
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(handle_.get(), sql, -1, &statement, nullptr) != SQLITE_OK)
      throw std::runtime_error(sqlite3_errmsg(handle_.get()));
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> owner(statement, sqlite3_finalize);
    return sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int(statement, 0) : 0;
  }

private:
  void check_thread() const {
    if (std::this_thread::get_id() != thread_)
      throw std::logic_error("touched from another thread");
  }

  struct closer {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close(handle); }
  };
  std::unique_ptr<sqlite3, closer> handle_;
  const std::thread::id thread_ = std::this_thread::get_id();
};
//! [connection]

//! [transfer]
// Moves money inside one transaction, and asks somebody else in the middle of it.
asio::awaitable<bool> transfer(thread_bound<connection>& bank) {
  asio::steady_timer moment(co_await asio::this_coro::executor);

  co_await bank.call([](connection& db) {
    db.execute("BEGIN; UPDATE account SET money = money - 30 WHERE id = 1");
  });

  moment.expires_after(
      std::chrono::milliseconds(10));  // the transaction stays open, the loop goes on
  co_await moment.async_wait(asio::use_awaitable);

  const int left = co_await bank.call([](connection& db) {
    db.execute("UPDATE account SET money = money + 30 WHERE id = 2");
    return db.number("SELECT money FROM account WHERE id = 1");
  });
  const bool covered = left >= 0;
  co_await bank.call([covered](connection& db) { db.execute(covered ? "COMMIT" : "ROLLBACK"); });
  co_return covered;
}
//! [transfer]

asio::awaitable<void> use(thread_bound<connection>& bank) {
  for (int i = 0; i < 4; ++i) {
    const bool done = co_await transfer(bank);
    const int left =
        co_await bank.call([](connection& db) { return db.number("SELECT money FROM account"); });
    std::cout << (done ? "moved 30, " : "refused, ") << left << " left" << std::endl;
  }
}

int main() {
  // Opened on a thread of its own, which is the only one that ever touches it, up to the closing.
  thread_bound<connection> bank([] { return connection(":memory:"); });

  // From sync code, too.
  bank.call_blocking([](connection& db) {
    db.execute(
        "CREATE TABLE account(id INTEGER PRIMARY KEY, money INTEGER);"
        "INSERT INTO account VALUES(1, 100), (2, 0)");
  });

  async_to_sync(use)(std::ref(bank));

  // What thread_bound is for: the connection itself, here, would refuse.
  connection& smuggled = bank.call_blocking([](connection& db) -> connection& { return db; });
  try {
    smuggled.number("SELECT money FROM account");
  } catch (const std::logic_error& error) {
    std::cout << "from main(): " << error.what() << std::endl;
  }
  const int total = bank.call_blocking(
      [](connection& db) { return db.number("SELECT sum(money) FROM account"); });
  std::cout << "in all: " << total << std::endl;
}
