// SPDX-License-Identifier: BSL-1.0
//
// What the library does about calls that wait for each other, and how to look at who waits for
// whom.
//
// Every wait in a bridge is an edge of one graph: a blocked thread waits for a coroutine, the
// coroutine for a call, the call for a lane, a limiter, a pool or a loop, and those for the threads
// that hold them. A cycle is a deadlock where nothing outside of it can end any of its waits: no
// timeout, no stop token, no other operation that the coroutine has under way. It is looked for
// after each new wait, off every loop, and found within two seconds of the last one. A wait that
// lasts and is no certain deadlock is a stall: what holds it is code that the library cannot look
// into.
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/error.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace bothworlds {

namespace detail {
struct wait_report_data;
}

/// What happens when a deadlock has been found. It is reported in any case but the last.
enum class on_deadlock {
  throw_error,  ///< its youngest wait ends with deadlock_error; everybody else goes on
  report_only,  ///< nothing else: it stays
  abort,        ///< std::abort(), for a core that shows every stack
  /// Nobody looks, neither for deadlocks nor for stalls, and threads that begin to wait do not tell.
  /// For measurements.
  off,
};

/// Who waits for whom. Copies share their content; any thread.
class BOTHWORLDS_API wait_report {
public:
  enum class kind {
    snapshot,    ///< every wait at one moment
    deadlock,    ///< a certain cycle, and who waits behind it
    stall,       ///< a call that has been waiting for longer than stall_after
    stall_over,  ///< that call has been served, or given up
  };

  explicit wait_report(std::shared_ptr<const detail::wait_report_data> data) noexcept;

  kind what() const noexcept;
  /// Of a deadlock, or of a stall: stable, counted from 1 for each; 0: a snapshot.
  unsigned number() const noexcept;
  std::string to_string(report_format format = report_format::text) const;

private:
  std::shared_ptr<const detail::wait_report_data> data_;
};

struct deadlock_options {
  on_deadlock policy = on_deadlock::throw_error;
  /// A queued call, or a coroutine that was not begun, is a stall after this long.
  std::chrono::milliseconds stall_after{10000};
  /// Called with each report, on a thread of the library, one at a time; it must not wait for
  /// anything. What it throws goes to stderr. Empty: reports go to stderr.
  std::function<void(const wait_report&)> sink = {};
};

/// For the whole process, from now on; waits that are there already are looked at again, but for
/// those that began while the policy was `off`. Any thread.
BOTHWORLDS_API void set_deadlock_options(deadlock_options options);

/// Every thread that is blocked in a bridge now, what it waits for, and who holds that. Takes no
/// lock of the user's; threads that are about to wake wait meanwhile, for microseconds to a few
/// milliseconds. Any thread.
BOTHWORLDS_API wait_report current_waits();

}  // namespace bothworlds
