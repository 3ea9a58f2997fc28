// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>
#include <string>

#include <unistd.h>

namespace bothworlds::testing {

/// While it lives, what the process writes to standard error goes to a file that text() reads.
class captured_stderr {
public:
  captured_stderr() : file_(std::tmpfile()), original_(::dup(STDERR_FILENO)) {
    std::fflush(stderr);
    ::dup2(::fileno(file_), STDERR_FILENO);
  }
  ~captured_stderr() {
    std::fflush(stderr);
    ::dup2(original_, STDERR_FILENO);
    ::close(original_);
    std::fclose(file_);
  }
  captured_stderr(const captured_stderr&) = delete;
  captured_stderr& operator=(const captured_stderr&) = delete;

  /// What has been written up to now.
  std::string text() const {
    std::fflush(stderr);
    std::string all;
    char block[1024];
    for (;;) {
      const ssize_t got =
          ::pread(::fileno(file_), block, sizeof block, static_cast<off_t>(all.size()));
      if (got <= 0) return all;
      all.append(block, static_cast<std::size_t>(got));
    }
  }

private:
  std::FILE* const file_;
  const int original_;
};

}  // namespace bothworlds::testing
