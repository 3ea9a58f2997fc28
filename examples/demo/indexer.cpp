// SPDX-License-Identifier: BSL-1.0
#include "indexer.hpp"

#include "file_index.hpp"
#include "in_parallel.hpp"
#include "read_tree.hpp"

#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace demo {

using bothworlds::sync_to_async;

namespace {

constexpr std::size_t files_in_flight = 8;
constexpr std::size_t files_per_batch = 512;

/// The state that the coroutines below share. All of them run on one loop, so nothing here is
/// locked; what blocks is in the functions that they hand to sync_to_async.
class indexing {
public:
  indexing(file_tree tree, index_writer writer, index_progress& progress)
      : tree_(std::move(tree)), writer_(std::move(writer)), progress_(progress) {}

  /// While one batch is being stored, the next is being read: at most two are in memory.
  asio::awaitable<void> run() {
    using namespace asio::experimental::awaitable_operators;
    do {
      auto ready = std::exchange(read_, {});
      co_await (read_batch() && store(std::move(ready)));
    } while (!read_.empty());
    co_await sync_to_async (&index_writer::commit)(&writer_);
  }

private:
  asio::awaitable<void> read_batch() {
    const auto end = std::min(next_ + files_per_batch, tree_.files.size());
    const auto reader = [this, end](std::size_t) { return read_until(end); };
    co_await in_parallel(files_in_flight, reader);
  }

  asio::awaitable<void> read_until(std::size_t end) {
    while (next_ < end) co_await read_one(tree_.files[next_++]);
  }

  asio::awaitable<void> read_one(const std::string& name) {
    try {
      auto record = co_await sync_to_async(read_record)(tree_.root, name);
      progress_.bytes_read += record.bytes;
      read_.push_back(std::move(record));
    } catch (const unreadable_file& error) {
      // Thrown on a worker, caught here as if read_record had been called directly.
      progress_.skipped.push_back({name, error.what()});
    }
    ++progress_.files_read;
  }

  asio::awaitable<void> store(std::vector<file_record> records) {
    if (!records.empty()) co_await sync_to_async (&index_writer::add)(&writer_, std::move(records));
  }

  const file_tree tree_;
  index_writer writer_;  // store() uses it, one call at a time
  index_progress& progress_;
  std::size_t next_ = 0;           // the first file that nobody has taken yet
  std::vector<file_record> read_;  // the batch that is growing
};

index_writer open_writer(const std::filesystem::path& database) { return index_writer(database); }

}  // namespace

asio::awaitable<void> index_tree(std::filesystem::path directory, std::filesystem::path database,
                                 index_progress& progress) {
  auto tree = co_await sync_to_async(list_files)(directory, database);
  progress.files_found = tree.files.size();
  progress.skipped = std::move(tree.skipped);

  auto writer = co_await sync_to_async(open_writer)(database);
  indexing task(std::move(tree), std::move(writer), progress);
  co_await task.run();
}

}  // namespace demo
