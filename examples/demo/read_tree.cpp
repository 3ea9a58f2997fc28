// SPDX-License-Identifier: BSL-1.0
#include "read_tree.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace demo {

namespace fs = std::filesystem;

namespace {

class file_descriptor {
public:
  explicit file_descriptor(int number) noexcept : number_(number) {}
  file_descriptor(const file_descriptor&) = delete;
  file_descriptor& operator=(const file_descriptor&) = delete;
  ~file_descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const noexcept { return number_; }

private:
  int number_;
};

[[noreturn]] void throw_unreadable(int error) {
  throw unreadable_file(std::system_category().message(error));
}

bool belongs_to(const fs::path& file, const fs::path& database) {
  const auto& name = file.native();
  return !database.empty() && name.starts_with(database.native()) &&
         (name.size() == database.native().size() || name[database.native().size()] == '-');
}

}  // namespace

file_tree list_files(const std::stop_token& stop, const fs::path& root, const fs::path& database) {
  file_tree tree;
  tree.root = fs::canonical(root);
  const auto own_file = fs::weakly_canonical(database);

  // A stack of directories of our own: one that cannot be read then costs only itself, where
  // std::filesystem's recursive iterator would end the walk.
  std::vector<fs::path> pending{tree.root};
  while (!pending.empty() && !stop.stop_requested()) {
    const auto directory = std::move(pending.back());
    pending.pop_back();
    std::error_code error;
    fs::directory_iterator entry(directory, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
      std::error_code unknown;
      const auto kind = entry->symlink_status(unknown).type();
      if (kind == fs::file_type::directory)
        pending.push_back(entry->path());
      else if (kind == fs::file_type::regular && !belongs_to(entry->path(), own_file))
        tree.files.push_back(entry->path().lexically_relative(tree.root).native());
      else if (unknown)
        tree.skipped.push_back({entry->path().native(), unknown.message()});
    }
    if (error) tree.skipped.push_back({directory.native(), error.message()});
  }
  return tree;
}

file_record read_record(const std::stop_token& stop, const fs::path& root,
                        const std::string& name) {
  // O_NONBLOCK: should the file have become a pipe since it was listed, do not wait for its writer.
  const file_descriptor file(
      ::open((root / name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  if (file.get() < 0 || ::fstat(file.get(), &status) < 0) throw_unreadable(errno);
  if (!S_ISREG(status.st_mode)) throw unreadable_file("no longer a regular file");

  // At most the bytes it had when it was opened: a log that grows while it is read comes to an end.
  file_record record{.name = name, .hash = 0xcbf29ce484222325};
  auto left = static_cast<std::uint64_t>(status.st_size);
  std::array<char, 1 << 16> block;
  while (left > 0 && !stop.stop_requested()) {
    const auto count =
        ::read(file.get(), block.data(), std::min<std::uint64_t>(left, block.size()));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_unreadable(errno);
    if (count == 0) break;  // it has become shorter
    for (auto byte : std::span(block.data(), static_cast<std::size_t>(count))) {
      record.lines += byte == '\n';
      record.hash = (record.hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    }
    record.bytes += static_cast<std::uint64_t>(count);
    left -= static_cast<std::uint64_t>(count);
  }
  return record;
}

}  // namespace demo
