// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/ref_counted.hpp>

#include <boost/intrusive/list_hook.hpp>

#include <atomic>
#include <exception>
#include <source_location>

namespace bothworlds::detail {

class lane;
class worker_pool_core;

/// Something that some thread is to run once. It may stand in the queue of a pool and, as an offer
/// to a thread that is blocked higher up in the same chain, in that thread's lane or among the
/// offers of its loop; whoever claims it decides its fate.
class BOTHWORLDS_API work : public ref_counted {
public:
  using hook = boost::intrusive::list_member_hook<>;

  explicit work(std::source_location where) noexcept : where_(where) {}

  /// True for exactly one caller, ever: that one must call run() or refuse(), or drop it for good.
  bool try_claim() noexcept { return !claimed_.exchange(true, std::memory_order_acq_rel); }

  /// On the claimant's thread.
  virtual void run() noexcept = 0;
  /// On the claimant's thread: this will never run, because of `why`.
  virtual void refuse(std::exception_ptr why) noexcept = 0;
  /// What reports call it; null: its place.
  virtual const char* name() const noexcept { return nullptr; }

  std::source_location where() const noexcept { return where_; }

protected:
  ~work() override;
  /// It is over, and nobody but the caller holds it: it can be claimed once more.
  void renew() noexcept { claimed_.store(false, std::memory_order_relaxed); }

private:
  friend class lane;
  friend class loop;
  friend class stall_finder;
  friend class wait_graph;
  friend class worker_pool_core;

  std::atomic<bool> claimed_{false};  // any thread
  std::atomic<bool> in_pool_{false};  // the pool's mutex to write: it stands in the queue
  bool waits_knowingly_ =
      false;  // the pool's mutex: who queued it was told that no worker was free
  unsigned char lane_queue_ = 0;  // the lane's mutex: in which of its queues this stands
  hook pool_hook_;                // the pool's mutex
  const std::source_location where_;
  std::int64_t queued_at_ =
      0;            // set before it is queued, then constant; nanoseconds of the coarse clock
  hook lane_hook_;  // the lane's mutex; or, among a loop's own offers, its driver
};

}  // namespace bothworlds::detail
