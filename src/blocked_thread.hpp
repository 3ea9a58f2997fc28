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
        takes_offers_(!deep_ || has_stack()) {}
  ~blocked_thread() { running(); }
  blocked_thread(const blocked_thread&) = delete;
  blocked_thread& operator=(const blocked_thread&) = delete;

  bool takes_offers() const noexcept { return takes_offers_; }
  /// Whether one more callable may be run on top of this wait, where nobody else would run it.
  static bool has_stack() noexcept { return room_on_stack().left > stack_reserve; }
  /// Opens the slot of this thread, which is `own`'s, if there is room for what may come. An
  /// interruption that is meant for a callable below would hit what runs on top of it: then other
  /// workers come first.
  static void open_slot(const thread_state& thread, lane& own, const async_call* call) noexcept {
    const stack_room room = room_on_stack();
    if (room.left > stack_reserve)
      own.open_slot(call, room.left > room.size / 2 && thread.interruptible == 0);
  }

  /// The next piece of work for this thread, claimed, for run(). Null: none; what sleeps then, or
  /// drives a loop, calls sleeps() first.
  work* next() noexcept {
    is_offer_ = false;
    if (work* item = own_.take_nested()) return item;
    // Deep down a stack this waits until the pool has been asked for a worker, and may not add one.
    if (takes_offers_ && own_.has_offers() &&
        (!deep_ || !thread_.worker || (sleeps(), !thread_.worker->pool().may_add_worker()))) {
      if (work* item = own_.take_offer()) {
        is_offer_ = true;
        return item;
      }
    }
    return nullptr;
  }

  /// From now on the thread counts as blocked, until it runs something here or this ends: it is no
  /// worker that could take a call from the queue.
  void sleeps() noexcept {
    if (thread_.worker && !std::exchange(sleeps_, true)) thread_.worker->blocks();
  }

  /// An offer that was found elsewhere, claimed, for run(); null: none.
  work* takes_up(work* offer) noexcept {
    is_offer_ = offer != nullptr;
    return offer;
  }

  void run(work* item) noexcept {
    running();
    const unsigned depth = thread_.help_depth;
    if (std::exchange(is_offer_, false)) ++thread_.help_depth;
    serve(item);
    thread_.help_depth = depth;
  }

  /// Work that nobody has claimed yet, with a reference.
  void run_unclaimed(work* item) noexcept {
    if (!item->try_claim()) return intrusive_ptr_release(item);
    running();
    if (thread_.worker) return thread_.worker->run_on_top(item);
    serve(item);
  }

private:
  // How deep offers are served on one stack before the pool is asked to add a worker; and how much
  // of the stack has to be left where the pool may not grow.
  static constexpr unsigned usual_help_depth = 32;
  static constexpr std::size_t stack_reserve = 256 * 1024;

  void running() noexcept {
    // In a forked child it is no worker any more.
    if (std::exchange(sleeps_, false) && thread_.worker) thread_.worker->resumes();
  }

  thread_state& thread_;
  lane& own_;
  const bool deep_;
  const bool takes_offers_;
  bool sleeps_ = false;
  bool is_offer_ = false;  // what next() has returned
};

}  // namespace bothworlds::detail
