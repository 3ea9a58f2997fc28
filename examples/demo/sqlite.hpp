// SPDX-License-Identifier: BSL-1.0
//
// SQLite's C interface with owners and exceptions. Plain blocking code that knows nothing of loops.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string_view>

#include <sqlite3.h>

namespace demo::sqlite {

struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class access { read_only, read_write };

/// One open database. Any thread may use it, one at a time.
class connection {
public:
  connection(const std::filesystem::path& file, access);  // read_write creates the file

  void execute(const char* sql);
  std::int64_t query_number(std::string_view sql);  // the first column of the first row; no row: 0

  sqlite3* handle() const noexcept { return handle_.get(); }

private:
  struct closer {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }
  };
  std::unique_ptr<sqlite3, closer> handle_;
};

/// One prepared statement, to be bound, stepped and reset any number of times. Parameters are
/// counted from 1 and columns from 0, as SQLite does. Text that is bound must live until the next
/// reset.
class statement {
public:
  statement(const connection&, std::string_view sql);

  statement& bind(int parameter, std::string_view text);
  statement& bind(int parameter, std::int64_t number);
  bool step();  // true: there is a row to look at
  void reset() noexcept;

  std::string_view text(int column) const;  // valid until the next step or reset
  std::int64_t number(int column) const;

private:
  void check(int code) const;

  struct finalizer {
    void operator()(sqlite3_stmt* handle) const noexcept { sqlite3_finalize(handle); }
  };
  std::unique_ptr<sqlite3_stmt, finalizer> handle_;
};

/// Resets the statement at the end of a block, so that it holds no lock and no borrowed text.
class reset_at_exit {
public:
  explicit reset_at_exit(statement& s) noexcept : statement_(s) {}
  reset_at_exit(const reset_at_exit&) = delete;
  reset_at_exit& operator=(const reset_at_exit&) = delete;
  ~reset_at_exit() { statement_.reset(); }

private:
  statement& statement_;
};

}  // namespace demo::sqlite
