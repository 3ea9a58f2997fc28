// SPDX-License-Identifier: BSL-1.0
//
// The library's own errors. A callable's or a coroutine's exception is never wrapped in one of
// these: it arrives on the other side as it was thrown. Cancellation is Asio's `operation_aborted`.
#pragma once

#include <bothworlds/config.hpp>

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <memory>
#include <source_location>
#include <string>

namespace bothworlds {

/// What went wrong, as a code of the category "bothworlds".
enum class errc {
  running_loop = 1,  ///< a blocking call on a thread that is running a loop right now
  would_deadlock,    ///< the call waits for something that waits for the call
  loop_stopped,      ///< the loop the call needs was stopped or destroyed, or its thread has ended
  pool_closed,       ///< the pool, or the executor, no longer runs what it is given
  queue_full,        ///< the pool's queue_limit is reached and its policy is to reject
  timed_out,        ///< the call's timeout passed; the coroutine has been cancelled and has unwound
  no_context,       ///< there is no scope that could hold the value or the task
  wrong_thread,     ///< the thread that this call must run on can no longer run it
  forked_child,     ///< made, or begun, before fork(), and used in the child
  task_failed,      ///< a task that nobody joined ended with an exception
  invalid_options,  ///< options that contradict each other, or an empty callable or executor
};

/// The category named "bothworlds". Thread-safe; lives as long as the process.
BOTHWORLDS_API const boost::system::error_category& error_category() noexcept;

inline boost::system::error_code make_error_code(errc code) noexcept {
  return {static_cast<int>(code), error_category()};
}

/// Base of every error that this library raises itself.
///
/// `what()` is one line. `report()` says at which two places it happened and what to do instead; it
/// is never empty. Copies share their text, so copying does not throw.
class BOTHWORLDS_API error : public boost::system::system_error {
public:
  /// `where` is the call that is refused or failed; `summary` one line; `advice` the other end and
  /// the fix.
  error(boost::system::error_code code, std::source_location where, const std::string& summary,
        const std::string& advice = {});
  error(errc code, std::source_location where, const std::string& summary,
        const std::string& advice = {});
  error(const error&) noexcept;
  error& operator=(const error&) = delete;
  ~error() override;

  /// The offending call.
  std::source_location where() const noexcept;
  /// Both ends, and what to do instead: several lines, each ended by a newline.
  std::string report() const;

private:
  std::source_location where_;
  std::shared_ptr<const std::string> report_;
};

/// The call itself was wrong, and was refused before it had any effect.
class BOTHWORLDS_API misuse_error : public error {
public:
  using error::error;
  ~misuse_error() override;
};

enum class report_format { text, json, dot };

class wait_report;

/// The call was the youngest of a certain cycle of waits (<bothworlds/deadlock.hpp>). It was never
/// begun; the others of the cycle go on. report() names every thread and every call of the cycle.
class BOTHWORLDS_API deadlock_error : public error {
public:
  deadlock_error(std::source_location where, const wait_report& waits);
  deadlock_error(const deadlock_error&) noexcept;
  ~deadlock_error() override;

  using error::report;
  std::string report(report_format format) const;

private:
  std::shared_ptr<const wait_report> waits_;
};

/// What run throws when a signal has ended the program in an orderly way; its code is Asio's
/// operation_aborted.
class BOTHWORLDS_API interrupted : public error {
public:
  interrupted(int signal, std::source_location where);
  ~interrupted() override;
  /// SIGINT or SIGTERM.
  int signal() const noexcept { return signal_; }

private:
  int signal_;
};

}  // namespace bothworlds

template <>
struct boost::system::is_error_code_enum<bothworlds::errc> : std::true_type {};
