// SPDX-License-Identifier: BSL-1.0
//
// Who holds a loop: with BOTHWORLDS_DEBUG=1 a thread of the library looks forty times a second
// whether each loop that is being turned gets on. One whose step has lasted for four looks is
// reported, with the line that it is at, and once more when it is over.
//
// Looks are counted, not time, and only those at which the thread either sleeps or has used a CPU
// since the one before: what only waits for a CPU, on a busy machine, or was stopped, is not to
// blame.
#pragma once

#include <boost/intrusive/list.hpp>

#include <chrono>
#include <cstdint>

#include <pthread.h>

namespace bothworlds::detail {

class loop;

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
  // The rest under the watch's mutex.
  boost::intrusive::list_member_hook<> hook_;    // not linked: there was no memory for a watch
  std::uint64_t step_ = 0;                       // of the loop, at the last look
  std::chrono::steady_clock::time_point since_;  // when it was first seen at that step
  unsigned looks_ = 0;                           // that counted, at that step
  std::chrono::nanoseconds cpu_time_{};          // of the thread, at the last look
};

}  // namespace bothworlds::detail
