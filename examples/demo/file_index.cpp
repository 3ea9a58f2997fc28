// SPDX-License-Identifier: BSL-1.0
#include "file_index.hpp"

#include <utility>

namespace demo {

namespace {

// Tells our own databases from those that this program must not touch.
constexpr std::int64_t application_id = 0x62776978;  // "bwix"

constexpr const char* schema = R"(
  CREATE TABLE IF NOT EXISTS files(
    name TEXT PRIMARY KEY, bytes INTEGER NOT NULL, lines INTEGER NOT NULL, hash INTEGER NOT NULL
  ) WITHOUT ROWID;
  DELETE FROM files;
)";

// SQLite's integers are signed; the same 64 bits come back as they went in.
std::int64_t to_column(std::uint64_t value) { return static_cast<std::int64_t>(value); }
std::uint64_t from_column(std::int64_t value) { return static_cast<std::uint64_t>(value); }

}  // namespace

index_writer::index_writer(const std::filesystem::path& database)
    : database_(open(database)),
      insert_(database_, "INSERT INTO files(name, bytes, lines, hash) VALUES(?, ?, ?, ?)") {}

sqlite::connection index_writer::open(const std::filesystem::path& file) {
  sqlite::connection database(file, sqlite::access::read_write);
  database.execute("BEGIN IMMEDIATE");  // from here to commit(); closing the connection rolls back
  if (database.query_number("PRAGMA application_id") != application_id &&
      database.query_number("SELECT count(*) FROM sqlite_schema") != 0)
    throw sqlite::error("'" + file.string() + "' is a database of something else; not touched");
  database.execute(schema);
  database.execute(("PRAGMA application_id = " + std::to_string(application_id)).c_str());
  return database;
}

void index_writer::add(const std::vector<file_record>& records) {
  for (const auto& record : records) {
    const sqlite::reset_at_exit guard(insert_);
    insert_.bind(1, record.name)
        .bind(2, to_column(record.bytes))
        .bind(3, to_column(record.lines))
        .bind(4, to_column(record.hash))
        .step();
  }
}

void index_writer::commit() { database_.execute("COMMIT"); }

index_readers::reader::reader(const std::filesystem::path& file)
    : database(file, sqlite::access::read_only),
      by_name(database, "SELECT name, bytes, lines, hash FROM files WHERE name = ?") {}

/// One connection, taken for the length of a block.
class index_readers::lease {
public:
  explicit lease(index_readers& owner) : owner_(owner) {
    std::unique_lock lock(owner_.mutex_);
    owner_.returned_.wait(lock, [this] { return !owner_.idle_.empty(); });
    reader_ = owner_.idle_.back();
    owner_.idle_.pop_back();
  }
  lease(const lease&) = delete;
  lease& operator=(const lease&) = delete;
  ~lease() {
    {
      const std::lock_guard lock(owner_.mutex_);
      owner_.idle_.push_back(reader_);  // never allocates: room was made for all of them
    }
    owner_.returned_.notify_one();
  }
  reader* operator->() const noexcept { return reader_; }

private:
  index_readers& owner_;
  reader* reader_ = nullptr;
};

index_readers::index_readers(const std::filesystem::path& database, std::size_t connections) {
  for (std::size_t i = 0; i < connections; ++i) {
    readers_.push_back(std::make_unique<reader>(database));
    idle_.push_back(readers_.back().get());
  }
}

std::optional<file_record> index_readers::find(const std::string& name) {
  const lease taken(*this);
  auto& query = taken->by_name;
  const sqlite::reset_at_exit guard(query);
  if (!query.bind(1, name).step()) return std::nullopt;
  return file_record{std::string(query.text(0)), from_column(query.number(1)),
                     from_column(query.number(2)), from_column(query.number(3))};
}

std::vector<std::string> index_readers::some_names(std::size_t most) {
  const lease taken(*this);
  const auto rows = taken->database.query_number("SELECT count(*) FROM files");
  const auto stride = rows / static_cast<std::int64_t>(most) + 1;  // never above `most`, nor 0
  sqlite::statement query(taken->database,
                          "SELECT name FROM (SELECT name, row_number() OVER () AS place FROM files)"
                          " WHERE (place - 1) % ? = 0");
  query.bind(1, stride);
  std::vector<std::string> names;
  while (query.step()) names.emplace_back(query.text(0));
  return names;
}

index_totals index_readers::totals() {
  const lease taken(*this);
  auto& database = taken->database;
  return {from_column(database.query_number("SELECT count(*) FROM files")),
          from_column(database.query_number("SELECT coalesce(sum(bytes), 0) FROM files"))};
}

}  // namespace demo
