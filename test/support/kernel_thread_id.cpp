// SPDX-License-Identifier: BSL-1.0
#include "support/kernel_thread_id.hpp"

#include <filesystem>
#include <iterator>

#include <sys/syscall.h>
#include <unistd.h>

namespace bothworlds::testing {

pid_t kernel_thread_id() noexcept { return static_cast<pid_t>(::syscall(SYS_gettid)); }

int kernel_thread_count() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<int>(std::distance(begin(tasks), end(tasks)));
}

}  // namespace bothworlds::testing
