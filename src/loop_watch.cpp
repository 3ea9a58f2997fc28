// SPDX-License-Identifier: BSL-1.0
#include "loop_watch.hpp"

#include "describe.hpp"
#include "loop.hpp"
#include "per_process.hpp"
#include "source_lines.hpp"
#include "thread_cache.hpp"
#include "thread_stack.hpp"
#include "unhandled.hpp"

#include <condition_variable>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <sys/syscall.h>
#include <unistd.h>

namespace bothworlds::detail {
namespace {

constexpr std::chrono::milliseconds interval{25};
constexpr unsigned looks_of_a_blocked_loop = 4;
constexpr std::size_t most_lines = 12;

std::chrono::nanoseconds cpu_time_of(::pthread_t thread) noexcept {
  ::clockid_t clock = {};
  ::timespec used = {};
  if (::pthread_getcpuclockid(thread, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return {};
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

bool is_asleep(int kernel_id) {
  std::ifstream stat("/proc/self/task/" + std::to_string(kernel_id) + "/stat");
  std::string line;
  std::getline(stat, line);
  const auto name_end = line.rfind(") ");
  if (name_end == std::string::npos || line.size() < name_end + 3) return false;
  const char state = line[name_end + 2];
  return state == 'S' || state == 'D';
}

/// `blocked`: the loop.
void tell_blocked(const std::string& blocked, const std::vector<void*>& stack) {
  std::string text = "bothworlds: " + blocked + " has been in one step for 0.1 s\n";
  std::size_t told = 0;
  for (const source_line& line : source_lines(stack)) {
    // Below the library's own are the loop and who turns it.
    if (told != 0 && (line.of == source_line::owner::bothworlds || told == most_lines)) break;
    if (line.of != source_line::owner::program) continue;
    text += (told++ == 0 ? "  at   " : "  from ") + line.file;
    text += (line.function.empty() ? "" : " in " + line.function) + "\n";
  }
  if (told == 0) text += "  at   code that could not be looked at\n";
  text +=
      "  why  a call there blocks, or computes, and nothing else on the loop goes on meanwhile\n"
      "  fix  co_await sync_to_async(f)(...) gives the call a thread\n";
  std::fputs(text.c_str(), stderr);
}

}  // namespace

class loop_watch {
public:
  /// Throws std::bad_alloc and what starting a thread throws.
  void add(watched_turn& turn);
  void remove(watched_turn& turn) noexcept;

private:
  using turns =
      boost::intrusive::list<watched_turn,
                             boost::intrusive::member_hook<
                                 watched_turn, decltype(watched_turn::hook_), &watched_turn::hook_>,
                             boost::intrusive::constant_time_size<false>>;
  struct blocked_loop {
    watched_turn* turn;  // stays until it has been told
    std::string title;
    std::vector<void*> stack;
  };

  void look_while_there_are_turns() noexcept;
  bool look();
  void tell(const blocked_loop& one);
  static bool is_blocked(watched_turn& turn);
  static bool was_told(const watched_turn& turn) noexcept;
  static std::string title(const watched_turn& turn);
  static std::string over(const watched_turn& turn);

  std::mutex mutex_;
  std::condition_variable told_;  // a report has been written
  turns turns_;                   // mutex_
  bool on_ = false;               // mutex_: a thread looks
};

namespace {

per_process<loop_watch> the_watch;

}  // namespace

void loop_watch::add(watched_turn& turn) {
  const std::lock_guard lock(mutex_);
  if (!on_) {
    run_on_library_thread([this] { look_while_there_are_turns(); });
    on_ = true;
  }
  turns_.push_back(turn);
}

// The process may end right after the turn: first, what is being said of it is said.
void loop_watch::remove(watched_turn& turn) noexcept {
  std::unique_lock lock(mutex_);
  told_.wait(lock, [&] { return !turn.being_told_; });
  turns_.erase(turns_.iterator_to(turn));
  if (!was_told(turn)) return;
  try {
    std::fputs(over(turn).c_str(), stderr);
  } catch (...) {
    report_unhandled("the look for blocked loops");
  }
}

void loop_watch::look_while_there_are_turns() noexcept {
  parker pause;
  for (bool more = true; more;) {
    pause.park_until(parker::clock::now() + interval);
    try {
      more = look();
    } catch (...) {
      report_unhandled("the look for blocked loops");
    }
  }
}

// False: there is nothing to look at any more.
bool loop_watch::look() {
  std::vector<blocked_loop> blocked;
  {
    // While it is held no thread leaves its turn: those that are asked for their stack are alive.
    const std::lock_guard lock(mutex_);
    for (watched_turn& turn : turns_) {
      const std::uint64_t step = turn.loop_.step();
      if (step != turn.step_) {
        if (was_told(turn)) std::fputs(over(turn).c_str(), stderr);
        turn.step_ = step;
        turn.looks_ = 0;
        turn.since_ = std::chrono::steady_clock::now();
        turn.cpu_time_ = cpu_time_of(turn.thread_);
      } else if (loop::is_within_step(step) && is_blocked(turn) &&
                 ++turn.looks_ == looks_of_a_blocked_loop) {
        blocked.push_back({&turn, title(turn), stack_of(turn.thread_)});
        turn.being_told_ = true;
      }
    }
    if (turns_.empty()) return on_ = false;
  }
  for (const blocked_loop& one : blocked) tell(one);
  return true;
}

void loop_watch::tell(const blocked_loop& one) {
  struct telling {
    loop_watch& watch;
    watched_turn& turn;
    ~telling() {
      const std::lock_guard lock(watch.mutex_);
      turn.being_told_ = false;
      watch.told_.notify_all();
    }
  } const until_told{*this, *one.turn};
  tell_blocked(one.title, one.stack);
}

// Since the last look, at which it was at the same step.
bool loop_watch::is_blocked(watched_turn& turn) {
  const std::chrono::nanoseconds before = std::exchange(turn.cpu_time_, cpu_time_of(turn.thread_));
  return turn.cpu_time_ - before > interval / 2 || is_asleep(turn.kernel_id_);
}

bool loop_watch::was_told(const watched_turn& turn) noexcept {
  return turn.looks_ >= looks_of_a_blocked_loop;
}

std::string loop_watch::title(const watched_turn& turn) {
  char name[16] = {};
  ::pthread_getname_np(turn.thread_, name, sizeof name);
  return std::string("the loop of thread '") + name + "' (" + std::to_string(turn.kernel_id_) + ")";
}

// When exactly, nobody has seen.
std::string loop_watch::over(const watched_turn& turn) {
  return "bothworlds: " + title(turn) + " goes on, after at most " +
         in_seconds(std::chrono::steady_clock::now() - turn.since_ + interval) + "\n";
}

watched_turn::watched_turn(const loop& turned) noexcept
    : loop_(turned),
      thread_(::pthread_self()),
      kernel_id_(static_cast<int>(::syscall(SYS_gettid))) {
  show_stack_of_this_thread();
  try {
    loop_watch& watch = the_watch.get();
    watch.add(*this);
    watch_ = &watch;
  } catch (...) {
    // No memory or no thread to watch with: this turn goes unwatched.
  }
}

watched_turn::~watched_turn() {
  // In a child that was forked off meanwhile the list is not this process's.
  if (watch_ && watch_ == the_watch.find()) watch_->remove(*this);
}

}  // namespace bothworlds::detail
