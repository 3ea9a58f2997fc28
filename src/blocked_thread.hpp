// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "lane.hpp"
#include "thread_state.hpp"
#include "worker_pool_core.hpp"

#include <cstddef>
#include <utility>

namespace bothworlds::detail {

/// The calling thread while it waits in a blocking call of this library: it runs what its chain
/// needs to have run here, and counts as blocked in its pool, if it is a worker, while it does not.
class blocked_thread {
public:
  blocked_thread(thread_state& thread, lane& own) noexcept
      : thread_(thread),
        own_(own),
        deep_(thread.help_depth >= usual_help_depth),
        takes_offers_(!deep_ || stack_left() > stack_reserve) {}
  ~blocked_thread() { running(); }
  blocked_thread(const blocked_thread&) = delete;
  blocked_thread& operator=(const blocked_thread&) = delete;

  bool takes_offers() const noexcept { return takes_offers_; }

  /// The next piece of work for this thread, claimed, for run(). Null: none; from then on the
  /// thread counts as blocked, also where it goes on to drive a loop: it is no worker then that
  /// could take a call from the queue.
  work* next() noexcept {
    is_offer_ = false;
    if (work* item = own_.take_nested()) return item;
    // Deep down a stack this waits until the pool has been asked for a worker, and may not add one.
    if (takes_offers_ && own_.has_offers() &&
        (!deep_ || !thread_.worker || (parked(), !thread_.worker->pool().may_add_worker()))) {
      if (work* item = own_.take_offer()) {
        is_offer_ = true;
        return item;
      }
    }
    parked();
    return nullptr;
  }

  void run(work* item) noexcept {
    running();
    if (is_offer_) ++thread_.help_depth;
    const bool was_offer = std::exchange(is_offer_, false);
    serve(item);
    if (was_offer) --thread_.help_depth;
  }

private:
  // How deep offers are served on one stack before the pool is asked to add a worker; and how much
  // of the stack has to be left where the pool may not grow.
  static constexpr unsigned usual_help_depth = 32;
  static constexpr std::size_t stack_reserve = 256 * 1024;

  void parked() noexcept {
    if (thread_.worker && !std::exchange(parked_, true)) thread_.worker->blocks();
  }
  void running() noexcept {
    if (std::exchange(parked_, false)) thread_.worker->resumes();
  }

  thread_state& thread_;
  lane& own_;
  const bool deep_;
  const bool takes_offers_;
  bool parked_ = false;
  bool is_offer_ = false;  // what next() has returned
};

}  // namespace bothworlds::detail
