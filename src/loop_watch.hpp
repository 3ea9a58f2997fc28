// SPDX-License-Identifier: BSL-1.0
//
// Who holds a loop: with BOTHWORLDS_DEBUG=1 a thread of the library looks forty times a second
// whether each loop that is being turned gets on. One whose step has lasted for four looks is
// reported, with the line that it is at, and once more when it is over.
//
// Looks are counted, not time, and only those at which the thread is asleep or has used a CPU since
// the one before: what only waits for a CPU, on a busy machine, or was stopped, is not to blame.
//
// A step is what comes from the loop's own queue or through the executors of its coroutines. What
// else Asio runs on the loop's io_context, while the driver sleeps in there, is not seen.
#pragma once

#include <boost/intrusive/list.hpp>

#include <chrono>
#include <cstdint>

#include <pthread.h>

namespace bothworlds::detail {

class loop;
class loop_watch;

/// While it lives, the calling thread turns `turned`, and is watched.
class watched_turn {
public:
  explicit watched_turn(const loop& turned) noexcept;
  ~watched_turn();
  watched_turn(const watched_turn&) = delete;
  watched_turn& operator=(const watched_turn&) = delete;

private:
  friend class loop_watch;

  const loop& loop_;
  const ::pthread_t thread_;
  const int kernel_id_;
  loop_watch* watch_ = nullptr;  // null: there was no memory or no thread for one
  // The rest under the watch's mutex.
  // A child that is forked off meanwhile leaves it linked.
  boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>>
      hook_;
  std::uint64_t step_ = 0;                       // of the loop, at the last look
  std::chrono::steady_clock::time_point since_;  // when it was first seen at that step
  unsigned looks_ = 0;                           // that counted, at that step
  std::chrono::nanoseconds cpu_time_{};          // of the thread, at the last look
  bool being_told_ = false;                      // a report of it is on its way to stderr
};

}  // namespace bothworlds::detail
