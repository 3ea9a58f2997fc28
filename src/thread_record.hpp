// SPDX-License-Identifier: BSL-1.0
//
// The threads that have slept in a bridge, for the wait-for graph.
//
// A thread tells its record before it falls asleep in a bridge call and after it has woken; that
// costs one uncontended spin lock beside a system call, and a call that never sleeps pays nothing.
// While somebody holds the lock of a thread that is asleep, everything on that thread's stack
// stands still and may be read: who is about to wake waits.
//
// Order of locks: the list of all records, then records, then the mutex of a pool, a lane, a
// limiter or a foreign context. No thread changes its own record while it holds any of those.
#pragma once

#include <bothworlds/detail/ref_counted.hpp>
#include <bothworlds/detail/spin_mutex.hpp>

#include <mutex>
#include <string>
#include <vector>

#include <pthread.h>

namespace bothworlds::detail {

class async_call;
class loop;
struct thread_state;

class thread_record final : public ref_counted {
public:
  /// The calling thread is about to sleep. `call`: what it waits for; null: nothing, it turns a
  /// loop for others. `in`: the loop in which it sleeps and which it therefore serves; null: none.
  /// Lists the thread at its first sleep; where there is no memory for that the graph takes it for
  /// one that runs.
  static void falls_asleep(const async_call* call, const loop* in) noexcept;
  /// Whether threads that fall asleep tell; true to begin with. Any thread.
  static void track(bool wanted) noexcept;
  static void wakes_up() noexcept;
  /// The calling thread is about to change what others may read while it sleeps. Asio tells nobody
  /// when it has woken in a loop and runs a handler, so whatever such a handler can reach of that
  /// calls this first.
  static void stirs() noexcept;
  /// Lists the calling thread, so that reports can name it. Null: no memory.
  static thread_record* of_this_thread() noexcept;
  /// The thread ends.
  void unlist() noexcept;

  // --- while frozen

  const thread_state* state() const noexcept { return state_; }
  const async_call* waits_for() const noexcept { return call_; }
  const loop* serves() const noexcept { return in_; }
  int kernel_id() const noexcept { return kernel_id_; }
  std::string name() const;

private:
  friend class frozen_threads;
  explicit thread_record(const thread_state& state) noexcept;
  ~thread_record() override;

  const thread_state* const state_;
  const ::pthread_t handle_;
  const int kernel_id_;
  spin_mutex mutex_;
  bool asleep_ = false;  // mutex_, and only its own thread writes; the next two describe the sleep
  const async_call* call_ = nullptr;
  const loop* in_ = nullptr;
};

/// While it lives, no thread that sleeps in a bridge goes on.
class frozen_threads {
public:
  frozen_threads();
  ~frozen_threads();
  frozen_threads(const frozen_threads&) = delete;
  frozen_threads& operator=(const frozen_threads&) = delete;

  const std::vector<thread_record*>& asleep() const noexcept { return asleep_; }
  /// The record of a thread that is asleep; null: it runs.
  thread_record* find(const thread_state* state) const noexcept;

private:
  std::vector<thread_record*> asleep_;
  std::unique_lock<std::mutex> list_;
};

}  // namespace bothworlds::detail
