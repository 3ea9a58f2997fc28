// SPDX-License-Identifier: BSL-1.0
//
// The index: one row for each file. Plain blocking code; who calls it on which thread is decided
// elsewhere.
#pragma once

#include "sqlite.hpp"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace demo {

struct file_record {
  std::string name;  // relative to the indexed directory
  std::uint64_t bytes = 0;
  std::uint64_t lines = 0;
  std::uint64_t hash = 0;  // FNV-1a of the contents
};

/// Replaces the whole index in one transaction: until commit() the old rows are what everyone sees,
/// and without it they are what remains. One thread at a time.
class index_writer {
public:
  /// Throws sqlite::error; also for a database that holds something else than an index.
  explicit index_writer(const std::filesystem::path& database);

  void add(const std::vector<file_record>& records);
  void commit();

private:
  static sqlite::connection open(const std::filesystem::path& file);

  sqlite::connection database_;
  sqlite::statement insert_;
};

struct index_totals {
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;
};

/// A fixed number of connections that read a finished index. Any thread may call; one that finds
/// every connection taken waits for one. Given at least as many connections as threads, nobody ever
/// waits.
class index_readers {
public:
  index_readers(const std::filesystem::path& database, std::size_t connections);

  std::optional<file_record> find(const std::string& name);
  std::vector<std::string> some_names(std::size_t most);  // spread over the whole index
  index_totals totals();

private:
  struct reader {
    explicit reader(const std::filesystem::path& file);
    sqlite::connection database;
    sqlite::statement by_name;
  };
  class lease;

  std::vector<std::unique_ptr<reader>> readers_;  // fixed after construction

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<reader*> idle_;  // guarded by mutex_
};

}  // namespace demo
