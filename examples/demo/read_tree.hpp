// SPDX-License-Identifier: BSL-1.0
//
// Directories and files, read the way the operating system offers it: blocking. A std::stop_token
// in front is filled in by sync_to_async, and lets a cancelled call return early.
#pragma once

#include "file_index.hpp"

#include <filesystem>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

namespace demo {

struct skipped_path {
  std::string path;
  std::string reason;
};

struct file_tree {
  std::filesystem::path root;
  std::vector<std::string> files;  // regular ones, relative to root
  std::vector<skipped_path> skipped;
};

/// Walks the tree below `root` without following symbolic links; what cannot be listed is in
/// `skipped`. Files of the database that is about to be written are left out: they change while
/// they are read.
file_tree list_files(const std::stop_token&, const std::filesystem::path& root,
                     const std::filesystem::path& database);

struct unreadable_file : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Reads the file and counts. Throws unreadable_file with the reason.
file_record read_record(const std::stop_token&, const std::filesystem::path& root,
                        const std::string& name);

}  // namespace demo
