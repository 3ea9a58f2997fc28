// SPDX-License-Identifier: BSL-1.0
//
// Connections to a real PostgreSQL server through thread_bound. run.py starts the server, and says
// in the environment how to reach it.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/thread_bound.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include <libpq-fe.h>

using namespace bothworlds::testing;
using bothworlds::cancel_policy;
using bothworlds::thread_bound;

namespace {

struct query_error : std::runtime_error {
  query_error(const std::string& what, std::string code)
      : runtime_error(what), state(std::move(code)) {}
  std::string state;
};

/// libpq's blocking interface. It notes the thread that opened it and refuses every other one.
class session {
public:
  explicit session(const char* where) : handle_(PQconnectdb(where)) {
    if (PQstatus(handle_.get()) != CONNECTION_OK)
      throw std::runtime_error(PQerrorMessage(handle_.get()));
  }

  /// The first field of the first row; empty: no row.
  std::string query(const char* sql) {
    if (kernel_thread_id() != thread_) throw std::logic_error("touched from another thread");
    const std::unique_ptr<PGresult, void (*)(PGresult*)> result(PQexec(handle_.get(), sql),
                                                                PQclear);
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
      const char* const state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
      throw query_error(PQresultErrorMessage(result.get()), state ? state : "");
    }
    return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }

  PGconn* handle() const noexcept { return handle_.get(); }

private:
  struct closer {
    void operator()(PGconn* handle) const noexcept { PQfinish(handle); }
  };
  std::unique_ptr<PGconn, closer> handle_;
  const long thread_ = kernel_thread_id();
};

session open_session() {
  const char* const where = std::getenv("BOTHWORLDS_TEST_POSTGRES");
  if (!where) throw std::runtime_error("this test is started by test/postgres/run.py");
  return session(where);
}

auto ask(const char* sql) {
  return [sql](session& s) { return s.query(sql); };
}

}  // namespace

TEST_CASE(
    "a transaction stays open across awaits, and only its own connection sees it before it is "
    "committed") {
  thread_bound<session> writer(open_session), reader(open_session);
  writer.call_blocking(
      ask("DROP TABLE IF EXISTS account; CREATE TABLE account(money int); INSERT INTO account "
          "VALUES(0)"));
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    asio::steady_timer moment(executor);
    co_await writer.call(ask("BEGIN"));
    for (int i = 0; i < 5; ++i) {
      co_await writer.call(ask("UPDATE account SET money = money + 10"));
      moment.expires_after(std::chrono::milliseconds(1));
      co_await moment.async_wait(asio::use_awaitable);
      const std::string seen = co_await reader.call(ask("SELECT money FROM account"));
      CHECK(seen == "0");
    }
    const std::string own = co_await writer.call(ask("SELECT money FROM account"));
    CHECK(own == "50");
    co_await writer.call(ask("COMMIT"));
    const std::string committed = co_await reader.call(ask("SELECT money FROM account"));
    CHECK(committed == "50");
    co_await writer.close();
    co_await reader.close();
  });
}

TEST_CASE(
    "signal_proof_call: a query that is cancelled is interrupted on the server, and the connection "
    "goes on") {
  thread_bound<session> db(open_session);
  // May be used by any thread, as libpq promises.
  const std::unique_ptr<PGcancel, void (*)(PGcancel*)> handle(
      db.call_blocking([](session& s) { return PQgetCancel(s.handle()); }), PQfreeCancel);
  const std::function<void()> interruptor = [&] {
    char reason[256];
    PQcancel(handle.get(), reason, sizeof reason);
  };
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running;
    std::string state;
    auto sleep = [&](session& s) {
      s.query("SELECT 1");
      running.open();
      s.query("SELECT pg_sleep(1000)");
    };
    child_task call(executor, [&]() -> awaitable<void> {
      co_await asio::this_coro::throw_if_cancelled(false);
      try {
        co_await db.call(sleep,
                         {.on_cancel = cancel_policy::interrupt, .interruptor = &interruptor});
      } catch (const query_error& e) {
        state = e.state;
      }
    });
    co_await yield_to_loop();
    running.wait();
    thread_bound<session> other(open_session);
    // The server says when the query has begun: it would not know of a cancellation that comes
    // before.
    auto sleepers =
        ask("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE "
            "'%pg_sleep(1000)'");
    for (std::string count; count != "1";) count = co_await other.call(sleepers);
    call.cancel();
    co_await call.join();
    CHECK(state == "57014");  // query_canceled
    const std::string two = co_await db.call(ask("SELECT 1 + 1"));
    CHECK(two == "2");
  });
}

TEST_CASE(
    "an error of the server's arrives as it was thrown, and a connection that cannot be made fails "
    "every call") {
  thread_bound<session> db(open_session);
  CHECK_THROWS_AS(db.call_blocking(ask("SELECT * FROM nowhere")), query_error);
  CHECK(db.call_blocking(ask("SELECT 7")) == "7");
  session& smuggled = db.call_blocking([](session& s) -> session& { return s; });
  CHECK_THROWS_WITH_AS(smuggled.query("SELECT 7"), "touched from another thread", std::logic_error);
  thread_bound<session> nobody([] { return session("host=/nowhere dbname=none"); });
  for (int i = 0; i < 2; ++i)
    CHECK_THROWS_AS(nobody.call_blocking(ask("SELECT 7")), std::runtime_error);
}
