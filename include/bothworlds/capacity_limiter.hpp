// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/ref_counted.hpp>
#include <bothworlds/worker_pool.hpp>

#include <chrono>
#include <cstddef>
#include <source_location>
#include <string>
#include <vector>

namespace bothworlds {

class capacity_limiter;
namespace detail {
class limiter_core;
const ref_ptr<limiter_core>& core_of(const capacity_limiter& limiter) noexcept;
}  // namespace detail

/// A call that holds a token of a capacity_limiter.
struct token_borrower {
  std::string name;  ///< sync_options::name, or file:line of the wrap
  std::source_location where;
  std::chrono::milliseconds held_for{0};
};

struct capacity_limiter_stats {
  std::size_t limit = 0;     ///< tokens there are; no_limit: without a bound
  std::size_t borrowed = 0;  ///< tokens that are held; more than `limit` after it was lowered
  std::size_t queued = 0;    ///< calls that wait for one
  std::chrono::milliseconds oldest_queued{0};  ///< age of the oldest of these; 0: none
  std::vector<token_borrower> borrowers;       ///< the oldest first
};

/// At most so many calls at once: tokens for sync_options::limiter, on whatever thread the
/// callables run.
///
/// A call takes a token before it is queued for its thread, in the order of awaiting, and holds it
/// until its callable has really ended: also when it was abandoned, or cancelled while it ran. A
/// call that finds none waits suspended; its loop goes on, no thread is taken and no memory.
/// Cancelled meanwhile, it leaves the queue and never runs.
///
/// A chain counts once: what runs below a call that holds a token, through async_to_sync inside its
/// callable, uses that token and takes no second one, so nesting to any depth completes with a
/// limit of 1. The token comes back when the last of them has ended.
///
/// A call that another one waits for, such as the release of what is acquired under this limiter,
/// must not need a token of the same limiter: give it another limiter, or none.
///
/// A call that has waited for a token is handed to its pool by the thread that gave the token back.
/// Nobody could run it there, so that on_full::caller_runs queues it; on_full::reject fails it with
/// queue_full all the same.
///
/// Its members may be called from any thread. Throughout a forked child: errc::forked_child; make
/// one in the child.
class BOTHWORLDS_API capacity_limiter {
public:
  /// `limit` may be 0, so that calls wait for resize(), and no_limit.
  explicit capacity_limiter(std::size_t limit);
  /// Calls that were made with this limiter are not affected: they go on as if it were there, under
  /// the limit it had. Only if that is 0, and so nobody could ever change it, those that wait, and
  /// those to come, fail with errc::pool_closed.
  ~capacity_limiter();
  capacity_limiter(const capacity_limiter&) = delete;
  capacity_limiter& operator=(const capacity_limiter&) = delete;

  /// Changes the limit while it is in use. A higher one lets calls that wait go on at once, a lower
  /// one takes nothing away from those that hold a token.
  void resize(std::size_t limit);

  capacity_limiter_stats stats() const;

private:
  friend const detail::ref_ptr<detail::limiter_core>& detail::core_of(
      const capacity_limiter& limiter) noexcept;
  const detail::ref_ptr<detail::limiter_core> core_;
};

}  // namespace bothworlds
