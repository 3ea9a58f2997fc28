// SPDX-License-Identifier: BSL-1.0
#include "forked_child.hpp"

#include <cstdio>
#include <cstdlib>

#include <unistd.h>

namespace bothworlds::detail {

error call_of_parent(std::source_location where) {
  return error(errc::forked_child, where,
               "this call was begun before fork(), in the parent process, and cannot end in the "
               "child",
               "  why  what it waits for has forked, and has returned or begun to wait there\n"
               "  fix  end the child in the code that forks, with _exit() or exec\n");
}

void end_forked_child(const std::source_location* where) noexcept {
  std::fprintf(stderr,
               "bothworlds: a forked child, process %d, has nothing to go on with, and ends\n",
               static_cast<int>(::getpid()));
  if (where)
    std::fprintf(stderr, "  at   %s:%u, where the call was made that has forked and returned\n",
                 where->file_name(), static_cast<unsigned>(where->line()));
  else
    std::fputs("  at   a coroutine that has forked, and has ended or begun to wait in the child\n",
               stderr);
  std::fputs(
      "  why  its caller and its loop are in the parent process\n"
      "  fix  end the child in the code that forks, with _exit() or exec\n",
      stderr);
  // Not exit(): what that destroys and writes out is the parent's, too.
  ::_exit(EXIT_FAILURE);
}

}  // namespace bothworlds::detail
