// SPDX-License-Identifier: BSL-1.0
//
// One blocking database query and one coroutine, each called from both worlds.

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <sqlite3.h>

namespace asio = boost::asio;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;

// A database of chats. SQLite locks it for us: any thread may ask, as in any other library that
// blocks.
using database = std::shared_ptr<sqlite3>;

database open_chats() {
  sqlite3* handle = nullptr;
  if (sqlite3_open_v2(":memory:", &handle,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
                      nullptr) != SQLITE_OK)
    throw std::runtime_error("cannot open a database in memory");
  database chats(handle, sqlite3_close);
  sqlite3_exec(
      handle,
      "CREATE TABLE chats(id, name); INSERT INTO chats VALUES(17, 'gardeners'), (42, 'sailors')",
      nullptr, nullptr, nullptr);
  return chats;
}

//! [sync]
// Sync code: the thread is blocked until SQLite has the row.
int get_chat_id(const database& chats, const std::string& name) {
  sqlite3_stmt* statement = nullptr;
  sqlite3_prepare_v2(chats.get(), "SELECT id FROM chats WHERE name = ?", -1, &statement, nullptr);
  const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> owner(statement, sqlite3_finalize);
  sqlite3_bind_text(statement, 1, name.c_str(), -1, SQLITE_STATIC);
  if (sqlite3_step(statement) != SQLITE_ROW) throw std::runtime_error("no chat is called " + name);
  return sqlite3_column_int(statement, 0);
}
//! [sync]

//! [async]
// Async code: asks after a moment of politeness, in which the loop can do other things.
asio::awaitable<int> get_chat_id_politely(database chats, std::string name) {
  asio::steady_timer moment(co_await asio::this_coro::executor, std::chrono::milliseconds(10));
  co_await moment.async_wait(asio::use_awaitable);
  co_return co_await sync_to_async(get_chat_id)(chats, name);  // sync from async
}
//! [async]

//! [async_callers]
asio::awaitable<void> async_code(database chats) {
  const int id = co_await get_chat_id_politely(chats, "gardeners");
  std::cout << "async from async: " << id << std::endl;

  const int other = co_await sync_to_async(get_chat_id)(chats, "sailors");
  std::cout << "sync from async:  " << other << std::endl;

  try {  // exceptions come across as they are
    co_await sync_to_async(get_chat_id)(chats, "astronauts");
  } catch (const std::runtime_error& error) {
    std::cout << "sync from async:  " << error.what() << std::endl;
  }
}
//! [async_callers]

//! [sync_callers]
int main() {
  const database chats = open_chats();

  const int id = get_chat_id(chats, "gardeners");
  std::cout << "sync from sync:   " << id << std::endl;

  const int other = async_to_sync(get_chat_id_politely)(chats, "sailors");
  std::cout << "async from sync:  " << other << std::endl;

  async_to_sync(async_code)(chats);
}
//! [sync_callers]
