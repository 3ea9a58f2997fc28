// SPDX-License-Identifier: BSL-1.0
//
// What the library keeps about somebody else's execution context, so that it can be stopped or
// destroyed under our operations without anybody touching it afterwards.
//
// A service of the context owns one reference to its foreign_context, the operations that are
// awaited there the others. mutex_ guards gone_ and the list; posting to the context happens under
// it, so a destruction either comes first and is seen, or waits for the post.
#pragma once

#include "process_mark.hpp"
#include "thread_state.hpp"

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/suspension.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/intrusive/list.hpp>

#include <atomic>
#include <mutex>
#include <optional>

namespace bothworlds::detail {

class foreign_context;

/// An executor of a context that may be destroyed first: then it is let go of while the context's
/// services are still there, because some executors (strands) need them to be destroyed.
class bound_executor {
public:
  /// Inside with_context().
  bound_executor(const ref_ptr<foreign_context>& context, asio::any_io_executor executor);
  ~bound_executor();
  bound_executor(const bound_executor&) = delete;
  bound_executor& operator=(const bound_executor&) = delete;

  /// Inside with_context(), or on the context's own threads. Empty once the context is gone.
  const asio::any_io_executor& may_run_now() const noexcept { return may_run_now_; }
  const asio::any_io_executor& never_now() const noexcept { return never_now_; }
  const ref_ptr<foreign_context>& context() const noexcept { return context_; }

private:
  friend class foreign_context;

  void release() noexcept;

  const ref_ptr<foreign_context> context_;
  asio::any_io_executor may_run_now_;          // the context's mutex to write
  asio::any_io_executor never_now_;            // likewise
  boost::intrusive::list_member_hook<> hook_;  // likewise
};

class foreign_context final : public ref_counted {
public:
  /// The one of `context`; made at first use. Throws std::bad_alloc.
  static ref_ptr<foreign_context> of(asio::execution_context& context);

  explicit foreign_context(asio::execution_context& context) : scheduler_(context) {}

  /// It was made by the process that this one was forked off.
  bool is_of_parent_process() const noexcept { return process_.is_of_parent(); }

  /// Runs `function` while the context cannot be destroyed. False: it has been, nothing was run.
  template <class F>
  bool with_context(F&& function) {
    const std::lock_guard lock(mutex_);
    if (gone()) return false;
    std::forward<F>(function)();
    return true;
  }

  bool gone() const noexcept { return gone_.load(std::memory_order_acquire); }
  /// Destroyed, or stopped as an io_context is.
  bool stopped() noexcept;
  /// Something is under way there, and no longer is: the scheduler, if it has one, does not run out of
  /// work meanwhile. Any thread.
  void work_started() const noexcept {
    if (scheduler_ && !gone()) scheduler_.work_started();
  }
  void work_finished() const noexcept {
    if (scheduler_ && !gone()) scheduler_.work_finished();
  }

  void track(suspension& op) noexcept;
  /// Called by the service when the context is being destroyed.
  void destroyed() noexcept;

private:
  friend class bound_executor;
  friend class foreign_awaiter;
  using executors = boost::intrusive::list<
      bound_executor,
      boost::intrusive::member_hook<bound_executor, boost::intrusive::list_member_hook<>,
                                    &bound_executor::hook_>,
      boost::intrusive::constant_time_size<false>>;
  using suspensions = boost::intrusive::list<
      suspension,
      boost::intrusive::member_hook<suspension, boost::intrusive::list_member_hook<>,
                                    &suspension::in_flight_hook_>,
      boost::intrusive::constant_time_size<false>>;

  ~foreign_context() override;

  // Recursive, because what is destroyed under it may own further executors of the same context.
  std::recursive_mutex mutex_;
  std::atomic<bool> gone_{false};  // mutex_ to write
  suspensions awaiting_;           // mutex_
  executors bound_;                // mutex_
  const scheduler_ref scheduler_;
  const process_mark process_;
};

/// Where a suspension resumes when its coroutine runs on somebody else's executor.
class foreign_awaiter final : public ref_counted {
public:
  /// On the context's own thread. Throws std::bad_alloc, and forked_child, made at `where`.
  foreign_awaiter(const asio::any_io_executor& executor, std::source_location where);

  const asio::any_io_executor& executor() const noexcept { return executor_->may_run_now(); }
  const ref_ptr<foreign_context>& context() const noexcept { return context_; }
  /// Resumes `op` on the executor; takes the caller's reference. Cannot fail: where memory is short
  /// it waits for some. Any thread.
  void post(suspension* op) noexcept;

private:
  class resumption;

  ~foreign_awaiter() override;

  const ref_ptr<foreign_context> context_;
  std::optional<bound_executor> executor_;
};

}  // namespace bothworlds::detail
