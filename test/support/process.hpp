// SPDX-License-Identifier: BSL-1.0
#pragma once

/// What the kernel knows of this process: its threads, their names, states and masks; and forked
/// children.

#include <csignal>
#include <cstdint>
#include <fstream>
#include <set>
#include <string>

#include <dirent.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bothworlds::testing {

inline std::set<std::string> entries_of(const char* directory) {
  std::set<std::string> names;
  if (DIR* open = ::opendir(directory)) {
    while (const dirent* entry = ::readdir(open))
      if (entry->d_name[0] != '.') names.insert(entry->d_name);
    ::closedir(open);
  }
  return names;
}

inline bool thread_exists(long id) {
  return entries_of("/proc/self/task").contains(std::to_string(id));
}

inline std::string thread_name(long id) {
  std::ifstream file("/proc/self/task/" + std::to_string(id) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

/// True where the kernel has the thread asleep.
inline bool thread_sleeps(long id) {
  std::ifstream file("/proc/self/task/" + std::to_string(id) + "/stat");
  std::string line;
  std::getline(file, line);
  const auto after_name = line.rfind(") ");
  return after_name != std::string::npos && line.size() > after_name + 2 &&
         line[after_name + 2] == 'S';
}

/// How often the thread has gone to sleep; -1: there is none.
inline long voluntary_switches(long thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/status");
  const std::string key = "voluntary_ctxt_switches:";
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return std::stol(line.substr(key.size()));
  return -1;
}

/// fork(); a signal ends the child after `limit` seconds, whatever its thread has blocked.
inline pid_t fork_for(unsigned limit = 60) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_UNBLOCK, &all, nullptr);
  std::signal(SIGALRM, SIG_DFL);
  ::alarm(limit);
  return child;
}

/// Waits for the child's end. Gives its exit code, or minus the number of the signal that ended it.
inline int exit_code_of(pid_t child) {
  if (child < 0) return -1000;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// Runs `fn`, which returns an exit code, in a forked child that is ended after `limit` seconds.
/// Gives what exit_code_of() does.
template <class F>
int exit_code_of_child(F fn, unsigned limit = 60) {
  const pid_t child = fork_for(limit);
  if (child == 0) {
    int code = 250;
    try {
      code = fn();
    } catch (...) {
      code = 251;
    }
    ::_exit(code);
  }
  return exit_code_of(child);
}

}  // namespace bothworlds::testing
