// SPDX-License-Identifier: BSL-1.0
#include "sqlite.hpp"

#include <cstddef>
#include <string>

namespace demo::sqlite {

connection::connection(const std::filesystem::path& file, access how) {
  // Nobody uses one connection from two threads at once here, so SQLite need not lock it.
  const int flags =
      SQLITE_OPEN_NOMUTEX | (how == access::read_only ? SQLITE_OPEN_READONLY
                                                      : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(file.c_str(), &handle, flags, nullptr);
  handle_.reset(handle);  // a failed open, too, may leave something to close
  if (code != SQLITE_OK)
    throw error("cannot open database '" + file.string() + "': " + sqlite3_errstr(code));
  sqlite3_busy_timeout(handle, 2000);
}

void connection::execute(const char* sql) {
  if (sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
    throw error(std::string("database: ") + sqlite3_errmsg(handle()));
}

std::int64_t connection::query_number(std::string_view sql) {
  statement query(*this, sql);
  return query.step() ? query.number(0) : 0;
}

statement::statement(const connection& database, std::string_view sql) {
  sqlite3_stmt* handle = nullptr;
  const int code = sqlite3_prepare_v2(database.handle(), sql.data(), static_cast<int>(sql.size()),
                                      &handle, nullptr);
  handle_.reset(handle);
  if (code != SQLITE_OK) throw error(std::string("database: ") + sqlite3_errmsg(database.handle()));
}

statement& statement::bind(int parameter, std::string_view text) {
  // A null pointer would bind NULL, which is not the empty text.
  check(sqlite3_bind_text64(handle_.get(), parameter, text.data() ? text.data() : "", text.size(),
                            SQLITE_STATIC, SQLITE_UTF8));
  return *this;
}

statement& statement::bind(int parameter, std::int64_t number) {
  check(sqlite3_bind_int64(handle_.get(), parameter, number));
  return *this;
}

bool statement::step() {
  const int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) check(code);
  return false;
}

void statement::reset() noexcept {
  sqlite3_reset(handle_.get());
  sqlite3_clear_bindings(handle_.get());
}

std::string_view statement::text(int column) const {
  const auto* characters = sqlite3_column_text(handle_.get(), column);
  const auto length = sqlite3_column_bytes(handle_.get(), column);
  return {reinterpret_cast<const char*>(characters), static_cast<std::size_t>(length)};
}

std::int64_t statement::number(int column) const {
  return sqlite3_column_int64(handle_.get(), column);
}

void statement::check(int code) const {
  if (code != SQLITE_OK)
    throw error(std::string("database: ") + sqlite3_errmsg(sqlite3_db_handle(handle_.get())));
}

}  // namespace demo::sqlite
