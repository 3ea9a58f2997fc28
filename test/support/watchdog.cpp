// SPDX-License-Identifier: BSL-1.0
#include "support/watchdog.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature)
#define BOTHWORLDS_HAS_FEATURE(name) __has_feature(name)
#else
#define BOTHWORLDS_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || \
    BOTHWORLDS_HAS_FEATURE(thread_sanitizer) || BOTHWORLDS_HAS_FEATURE(address_sanitizer)
#define BOTHWORLDS_SANITIZED 1
extern "C" void __sanitizer_set_death_callback(void (*callback)());
#else
#define BOTHWORLDS_SANITIZED 0
#endif

namespace bothworlds::testing {
namespace {

constexpr int sanitizer_factor = 5;
constexpr int long_factor = 60;
constexpr int default_seconds = 60;

// Written by the thread that runs the cases, read by signal handlers and death callbacks of any
// thread.
std::atomic<const char*> current_case{nullptr};

std::chrono::seconds allowed_time() {
  int seconds = BOTHWORLDS_SANITIZED ? default_seconds * sanitizer_factor : default_seconds;
  if (const char* given = std::getenv("BOTHWORLDS_TEST_TIMEOUT")) {
    seconds = std::max(1, std::atoi(given));
  }
  if (std::getenv("BOTHWORLDS_TEST_LONG") != nullptr) {
    seconds *= long_factor;
  }
  return std::chrono::seconds(seconds);
}

// Everything below here that writes does so with write(2): stdio may be locked by the thread that
// hangs.
void put(const char* text) noexcept {
  for (std::size_t left = std::strlen(text); left > 0;) {
    const ssize_t written = ::write(STDERR_FILENO, text, left);
    if (written <= 0) {
      return;
    }
    text += written;
    left -= static_cast<std::size_t>(written);
  }
}

void put_case() noexcept {
  if (const char* name = current_case.load()) {
    put("[watchdog] in the test case: ");
    put(name);
    put("\n");
  }
}

// --- stacks, from inside

// Seldom used by others, and not the number that gdb or a sanitizer takes.
int dump_signal() noexcept { return SIGRTMAX - 3; }

std::atomic<bool> dump_answered{false};

void put_own_stack() noexcept {
  std::array<void*, 96> frames;
  const int depth = ::backtrace(frames.data(), static_cast<int>(frames.size()));
  ::backtrace_symbols_fd(frames.data(), depth, STDERR_FILENO);
}

void on_dump_signal(int) {
  const int saved = errno;
  put_own_stack();
  dump_answered.store(true);
  errno = saved;
}

std::string first_line_of(const std::string& path) {
  std::array<char, 256> buffer{};
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return "?";
  }
  const ssize_t count = ::read(file, buffer.data(), buffer.size() - 1);
  ::close(file);
  std::string text(buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  return text.substr(0, text.find('\n'));
}

std::vector<pid_t> threads_of_this_process() {
  std::vector<pid_t> ids;
  if (DIR* tasks = ::opendir("/proc/self/task")) {
    while (const dirent* entry = ::readdir(tasks)) {
      if (const int id = std::atoi(entry->d_name); id > 0) {
        ids.push_back(id);
      }
    }
    ::closedir(tasks);
  }
  return ids;
}

void dump_from_inside() {
  const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
  for (const pid_t id : threads_of_this_process()) {
    const std::string task = "/proc/self/task/" + std::to_string(id);
    const std::string header = "[watchdog] thread " + std::to_string(id) + " \"" +
                               first_line_of(task + "/comm") + "\", in the kernel at " +
                               first_line_of(task + "/wchan") + "\n";
    put(header.c_str());
    if (id == self) {
      put("  (the thread that prints this)\n");
      continue;
    }
    dump_answered.store(false);
    if (::syscall(SYS_tgkill, ::getpid(), id, dump_signal()) != 0) {
      put("  (gone)\n");
      continue;
    }
    // One at a time, so that stacks do not mix. A thread that blocks the signal, or that a
    // sanitizer does not let answer, gets a second and no more.
    for (int i = 0; i < 100 && !dump_answered.load(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    if (!dump_answered.load()) {
      put("  (no answer: signals blocked, or stopped)\n");
    }
  }
}

// --- stacks, from outside

void dump_with_gdb() {
  const std::string process = std::to_string(::getpid());
#ifdef PR_SET_PTRACER
  ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
#endif
  // Ended from outside where gdb hangs: while it is attached this thread stands still too.
  const std::array<const char*, 13> command = {"timeout", "--signal=KILL",
                                               "30",      "gdb",
                                               "-nx",     "-batch",
                                               "-p",      process.c_str(),
                                               "-ex",     "set print frame-arguments none",
                                               "-ex",     "thread apply all backtrace 40",
                                               nullptr};
  // Between fork and exec only calls that are safe after fork in a process with threads.
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    ::execvp(command[0], const_cast<char* const*>(command.data()));
    ::_exit(127);
  }
  if (child < 0) {
    return;
  }
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (::waitpid(child, nullptr, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > give_up) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
      put("[watchdog] gdb took too long\n");
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// --- the thread

struct state {
  std::mutex mutex;
  std::condition_variable changed;
  // All guarded by `mutex`.
  bool armed = false;
  bool stopping = false;
  std::chrono::steady_clock::time_point deadline;

  std::thread thread;        // main() only
  pid_t owner = ::getpid();  // never written again; a forked child has no watchdog and must not
                             // wait for its mutex
};

state& the_state() {
  static state instance;
  return instance;
}

void watch() {
  ::pthread_setname_np(::pthread_self(), "test-watchdog");
  state& watchdog = the_state();
  std::unique_lock lock(watchdog.mutex);
  while (!watchdog.stopping) {
    if (!watchdog.armed) {
      watchdog.changed.wait(lock);
    } else if (std::chrono::steady_clock::now() < watchdog.deadline) {
      watchdog.changed.wait_until(lock, watchdog.deadline);
    } else {
      put("\n[watchdog] TIMED OUT\n");
      put_case();
      dump_all_stacks();
      put("[watchdog] TIMED OUT\n");
      put_case();
      ::_exit(watchdog_exit_code);
    }
  }
}

// --- crashes

// Under a sanitizer only SIGABRT: the others are the sanitizer's, which calls put_case() before it
// ends the process.
constexpr auto crash_signals = [] {
#if BOTHWORLDS_SANITIZED
  return std::array{SIGABRT};
#else
  return std::array{SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
#endif
}();

void on_crash(int signal) {
  const auto name = [signal] {
    switch (signal) {
      case SIGABRT: return "SIGABRT";
      case SIGSEGV: return "SIGSEGV";
      case SIGBUS: return "SIGBUS";
      case SIGFPE: return "SIGFPE";
      case SIGILL: return "SIGILL";
      default: return "a signal";
    }
  }();
  put("\n[watchdog] CRASHED with ");
  put(name);
  put("\n");
  put_case();
  put_own_stack();
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void dump_all_stacks() {
  dump_from_inside();
  dump_with_gdb();
}

void watchdog_start() {
  // The first call loads a library and allocates, which a signal handler must not.
  std::array<void*, 1> frame;
  ::backtrace(frame.data(), 1);

  handle(dump_signal(), on_dump_signal, SA_RESTART);
#if !BOTHWORLDS_SANITIZED
  // On a stack of its own, for the overflow of the main one; a sanitizer brings its own.
  static std::array<char, 256 * 1024> crash_stack;
  stack_t stack = {};
  stack.ss_sp = crash_stack.data();
  stack.ss_size = crash_stack.size();
  ::sigaltstack(&stack, nullptr);
#endif
  for (const int signal : crash_signals) {
    handle(signal, on_crash, SA_ONSTACK);
  }
#if BOTHWORLDS_SANITIZED
  __sanitizer_set_death_callback([] { put_case(); });
#endif

  state& watchdog = the_state();
  // The signals that tests send to the process are for the program's threads.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  watchdog.thread = std::thread(watch);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void watchdog_stop() {
  state& watchdog = the_state();
  if (::getpid() != watchdog.owner) {
    return;
  }
  {
    const std::lock_guard lock(watchdog.mutex);
    watchdog.stopping = true;
  }
  watchdog.changed.notify_one();
  watchdog.thread.join();
}

void watchdog_arm(const char* name) {
  current_case.store(name);
  state& watchdog = the_state();
  if (::getpid() != watchdog.owner) {
    return;
  }
  {
    const std::lock_guard lock(watchdog.mutex);
    watchdog.armed = true;
    watchdog.deadline = std::chrono::steady_clock::now() + allowed_time();
  }
  watchdog.changed.notify_one();
}

void watchdog_disarm() {
  current_case.store(nullptr);
  state& watchdog = the_state();
  if (::getpid() != watchdog.owner) {
    return;
  }
  const std::lock_guard lock(watchdog.mutex);
  watchdog.armed = false;
}

}  // namespace bothworlds::testing
