// SPDX-License-Identifier: BSL-1.0
//
// From a directory tree to an index, with many files in flight.
#pragma once

#include "read_tree.hpp"

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace demo {

namespace asio = boost::asio;

/// How far index_tree has come. Read it on the loop that index_tree runs on.
struct index_progress {
  std::uint64_t files_found = 0;  // 0: still walking
  std::uint64_t files_read = 0;
  std::uint64_t bytes_read = 0;
  std::vector<skipped_path> skipped;  // what could not be read, and why
};

/// Fills `database` with one row for each regular file below `directory`. Symbolic links are not
/// followed. What cannot be read is noted in `progress.skipped` and does not stop the rest.
/// Cancelled or failed, it leaves the database as it was.
asio::awaitable<void> index_tree(std::filesystem::path directory, std::filesystem::path database,
                                 index_progress& progress);

}  // namespace demo
