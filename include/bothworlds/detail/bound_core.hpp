// SPDX-License-Identifier: BSL-1.0
//
// A thread_bound without its type: an object, and the lane whose thread alone touches it.
//
// The thread comes from the library's cache. It moves in (name, start hook), makes the object, runs
// the lane's calls until the lane is retired and drained, destroys the object, moves out, and goes
// back to the cache. The core is owned by the handle, by that thread, and by every call; what is
// not marked is constant or the thread's own.
#pragma once

#include <bothworlds/detail/crossing.hpp>
#include <bothworlds/error.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/intrusive/list_hook.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <source_location>
#include <string>

namespace bothworlds {

/// Options of a thread_bound.
struct thread_bound_options {
  /// Of the OS thread while it belongs to the object (15 characters).
  std::string name = "bothworlds:own";
  std::chrono::milliseconds patience{1000};  ///< how long the destructor waits for the thread
  /// Called on the thread before the object is made and after it was destroyed. What they throw is
  /// reported on stderr.
  std::function<void()> on_thread_start = {}, on_thread_stop = {};
};

struct thread_bound_stats {
  std::size_t queued = 0;                      ///< calls that wait for the thread
  std::chrono::milliseconds oldest_queued{0};  ///< age of the oldest of these; 0: none
  bool busy = false;    ///< a call, or making or destroying the object, is running
  std::string running;  ///< sync_options::name or file:line of that call
  std::chrono::milliseconds running_for{0};
  std::uint64_t abandoned = 0;  ///< calls that were left to themselves by cancel_policy::abandon
};

/// All thread_bound objects of the process.
struct thread_bound_counts {
  std::size_t open = 0;         ///< not yet destroyed
  std::size_t left_behind = 0;  ///< of them, those whose handle is gone: the thread was still busy
};

namespace detail {

class lane;
class bound_registry;

class BOTHWORLDS_API bound_core : public call_target {
public:
  /// Takes a thread and lets it make the object. Throws a system error if there is none,
  /// std::bad_alloc.
  void open();
  /// The handle goes. Waits for the thread as long as the options say, but never for itself or its
  /// own chain.
  void close_within_patience() noexcept;

  /// Whether the calling code runs on the object's thread.
  bool on_its_thread() const noexcept;
  /// Throws what keeps the object from being used: what make() threw, or that it is not there yet,
  /// or no more. On its thread.
  void check_alive(std::source_location where) const;
  /// Where a call goes that waits for the end.
  ref_ptr<call_target> closing();
  thread_bound_stats stats() const;

  void check(std::source_location where) const override;
  void submit(crossing& call, const chain_node* awaiting) override;
  void withdraw(crossing& call) noexcept override;
  void note_abandoned() noexcept override { abandoned_.fetch_add(1, std::memory_order_relaxed); }
  lane* queues_in() const noexcept override { return lane_.get(); }

protected:
  bound_core(thread_bound_options options, std::source_location where);
  ~bound_core() override;

  /// On the thread. What make() throws is what every call gets.
  virtual void make() = 0;
  virtual void destroy() noexcept = 0;

private:
  friend class bound_registry;
  class closing_target;
  enum class stage : unsigned char { making, alive, failed, gone };

  void live() noexcept;
  bool is_awaited_by(const chain_node* chain) const noexcept;
  bool of_another_process() const noexcept;
  error closed_error(std::source_location where) const;
  void report(const char* what) const noexcept;

  const thread_bound_options options_;
  const std::source_location where_;
  const std::uint32_t fork_generation_;
  const ref_ptr<lane> lane_;
  boost::intrusive::list_member_hook<> registry_hook_;  // the registry's mutex
  bool left_behind_ = false;                            // likewise
  stage stage_ = stage::making;                         // the thread
  std::exception_ptr failure_;                          // the thread
  std::atomic<std::uint64_t> abandoned_{0};             // any thread
  std::mutex mutex_;
  std::condition_variable moved_out_;
  bool has_moved_out_ = false;  // mutex_
};

/// Takes no more calls; done when the object is destroyed.
BOTHWORLDS_API asio::awaitable<void> await_end_of(bound_core& object, std::source_location where);

}  // namespace detail
}  // namespace bothworlds
