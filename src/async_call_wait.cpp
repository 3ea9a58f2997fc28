// SPDX-License-Identifier: BSL-1.0
//
// A thread that waits for its call: it drives its own loop, runs what its chain needs, or sleeps.
#include "blocked_thread.hpp"
#include "call_node.hpp"
#include "exception_from.hpp"
#include "foreign_context.hpp"
#include "forked_child.hpp"
#include "lane.hpp"
#include "loop.hpp"
#include "thread_record.hpp"
#include "watch.hpp"

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/error.hpp>

namespace bothworlds::detail {
namespace {

// How often a thread looks whether the foreign loop it waits for has been stopped: Asio tells
// nobody.
constexpr std::chrono::milliseconds stop_check_interval{50};

}  // namespace

bool async_call::is_of_parent_process() const noexcept {
  return loop_ ? loop_->is_of_parent_process() : node_->foreign()->is_of_parent_process();
}

void async_call::wait(thread_state& thread, loop* owned, std::optional<turning_scope>* turning) {
  const bool root = turning != nullptr;
  lane& mine = *waiter_;
  struct blocking_driver final : driver {
    blocking_driver(async_call& awaited, lane& on, loop* driven, bool helps) noexcept
        : call(awaited), where(on), owned(driven), takes_offers(helps) {}
    bool should_leave() const noexcept override { return !call.pending() || where.has_nested(); }
    bool could_help() const noexcept override {
      return takes_offers && (where.has_offers() || owned->has_offers());
    }
    void about_to_sleep(loop& in) const noexcept override {
      where.sleeps_in(&in);
      call.falls_asleep(&in);
    }
    void woke_up() const noexcept override {
      thread_record::wakes_up();
      where.sleeps_in(nullptr);
    }
    async_call& call;
    lane& where;
    const loop* const owned;
    const bool takes_offers;
  };
  blocked_thread blocked(thread, mine);
  const blocking_driver until(*this, mine, owned, blocked.takes_offers());
  bool driving = root;
  bool idle = false;
  if (root && *turning) {
    idle = owned->run_handlers(until);
    turning->reset();
  }
  const auto take_from_slot = [&] {
    work* const item = mine.close_slot();
    if (item) blocked.run_unclaimed(item);
    return item != nullptr;
  };
  while (pending()) {
    // What this thread has run until now may have forked.
    if (is_of_parent_process()) [[unlikely]] {
      mine.close_slot();
      intrusive_ptr_add_ref(this);  // the coroutine is not destroyed
      throw call_of_parent(where_);
    }
    // The slot may be open since before the call began. It is closed before anything else is begun,
    // which may be what waits for work in it; and stays open where there is nothing else.
    const bool has_others = mine.has_nested() || mine.has_offers();
    if (has_others && take_from_slot()) continue;
    const bool was_idle = std::exchange(idle, false);
    work* item = has_others ? blocked.next() : nullptr;
    if (!item && was_idle && driving) item = blocked.takes_up(owned->take_offer());
    if (item) {
      if (owned) {
        // The loop goes on without this thread, whoever has it now.
        if (driving || (!owned->keep_helper() && owned->try_drive())) owned->offer();
        driving = false;
      }
      blocked.run(item);
      continue;
    }
    if (owned && (driving || (driving = owned->try_drive()))) {
      blocked.sleeps();
      idle = owned->turn(until);
      continue;
    }
    // A root call wants its loop back. Below a root call a helper may keep it as long as it likes.
    if (root)
      owned->ask_back();  // and nothing else keeps it waiting
    else if (mine.slot_is_closed())
      blocked_thread::open_slot(thread, mine, this);
    park(mine, blocked);
    take_from_slot();
  }
  take_from_slot();  // it has ended before this thread came to wait
  if (!owned || is_of_parent_process()) return;
  if (!root) {
    // The calls below need the loop to keep turning while this thread goes on with blocking code.
    if (driving) owned->offer();
    return;
  }
  while (!driving && !(driving = owned->try_drive())) {
    owned->ask_back();
    mine.parking().park();
  }
  leave(*owned);
}

void async_call::falls_asleep(const loop* in) noexcept {
  if (asleep_since_ == 0) asleep_since_ = coarse_now();
  thread_record::falls_asleep(this, in);
  // A thread that sleeps in its loop serves it: what its coroutine waits for may be stuck, and says
  // so itself.
  if (!in) watch_waits();
}

void async_call::park(lane& where, blocked_thread& blocked) {
  const auto never = std::chrono::steady_clock::time_point::max();
  if (loop_ && where.wait_a_little([&] { return !pending() || where.parking().is_woken(); }))
    return where.parking().forget_wake();
  blocked.sleeps();
  // Asleep as far as others may see only while it does sleep: what follows changes the call.
  const auto sleep_until = [&](std::chrono::steady_clock::time_point end) {
    if (!changes_outcome(outcome::pending, outcome::slept_on)) return true;
    falls_asleep(nullptr);
    bool woken = true;
    if (end == never)
      where.parking().park();
    else
      woken = where.parking().park_until(end);
    thread_record::wakes_up();
    changes_outcome(outcome::slept_on, outcome::pending);
    return woken;
  };
  if (loop_ && patience_ == never) {
    sleep_until(never);
    return;
  }
  const auto next_look = std::chrono::steady_clock::now() + stop_check_interval;
  if (sleep_until(loop_ ? patience_ : std::min(patience_, next_look))) return;
  if (!loop_) {
    // Twice in a row, so that a loop that is stopped and restarted is left alone.
    const bool stopped = node_->foreign()->stopped();
    if (stopped && std::exchange(stopped_before_, stopped))
      return give_up(exception_from([this] {
        return error(errc::loop_stopped, where_,
                     "the loop that runs this call was stopped or destroyed",
                     "  fix  let the loop run until the calls that run on it have returned\n");
      }));
    stopped_before_ = stopped;
  }
  if (std::chrono::steady_clock::now() < patience_) return;
  // The coroutine's own timer sees to it, if its loop runs. If it was never begun, nothing has
  // happened yet.
  patience_ = never;
  if (claim(start::late)) give_up(exception_from([this] { return timeout_error(); }));
}

}  // namespace bothworlds::detail
