// SPDX-License-Identifier: BSL-1.0
//
// What the library keeps about somebody else's execution context, so that it can be stopped or destroyed under
// our crossings without anybody touching it afterwards.
//
// A service of the context owns one reference to its foreign_context, the crossings that are awaited there the
// others. mutex_ guards gone_ and the list; posting to the context happens under it, so a destruction either comes
// first and is seen, or waits for the post.
#pragma once

#include "asio_internals.hpp"

#include <bothworlds/detail/crossing.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/intrusive/list.hpp>

#include <atomic>
#include <mutex>

namespace bothworlds::detail {

class foreign_context final : public ref_counted {
public:
  /// The one of `context`; made at first use. Throws std::bad_alloc.
  static ref_ptr<foreign_context> of(asio::execution_context& context);

  explicit foreign_context(asio::execution_context& context) : scheduler_(context) {}

  /// Runs `function` while the context cannot be destroyed. False: it has been, nothing was run.
  template <class F>
  bool with_context(F&& function) {
    const std::lock_guard lock(mutex_);
    if (gone()) return false;
    function();
    return true;
  }

  bool gone() const noexcept { return gone_.load(std::memory_order_acquire); }
  /// Destroyed, or stopped as an io_context is.
  bool stopped() noexcept;
  const scheduler_ref& scheduler() const noexcept { return scheduler_; }

  void track(crossing& call) noexcept;
  /// Called by the service when the context is being destroyed.
  void destroyed() noexcept;

private:
  friend class foreign_awaiter;
  using crossings = boost::intrusive::list<
      crossing,
      boost::intrusive::member_hook<crossing, boost::intrusive::list_member_hook<>,
                                    &crossing::in_flight_hook_>,
      boost::intrusive::constant_time_size<false>>;

  ~foreign_context() override;

  std::mutex mutex_;
  std::atomic<bool> gone_{false};  // mutex_ to write
  crossings awaiting_;  // mutex_
  const scheduler_ref scheduler_;
};

/// Where a crossing resumes when its coroutine runs on somebody else's executor.
class foreign_awaiter final : public ref_counted {
public:
  explicit foreign_awaiter(const asio::any_io_executor& executor);

  const asio::any_io_executor& executor() const noexcept { return executor_; }
  const ref_ptr<foreign_context>& context() const noexcept { return context_; }
  /// Resumes `call` on the executor; takes the caller's reference. Cannot fail: where memory is short it waits for
  /// some. Any thread.
  void post(crossing* call) noexcept;

private:
  class resumption;

  ~foreign_awaiter() override;

  const asio::any_io_executor executor_;  // never runs a function at once
  const ref_ptr<foreign_context> context_;
};

}  // namespace bothworlds::detail
