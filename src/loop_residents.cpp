// SPDX-License-Identifier: BSL-1.0
//
// The coroutines that a loop keeps for the calls that begin on it, and what those that have ended have
// left behind.
#include "loop.hpp"
#include "resident.hpp"
#include "spawned.hpp"

#include <bothworlds/detail/async_call.hpp>

#include <utility>

namespace bothworlds::detail {

void loop::keep_resident(resident& idle) noexcept {
  ++idle_residents_;
  idle.next_idle_ = std::exchange(idle_resident_, &idle);
}

// Not where one of them may be on the stack.
void loop::trim_residents() noexcept {
  while (idle_residents_ > most_idle_residents) take_idle_resident()->retire();
}

void loop::forget_kept_place() noexcept {
  place_kept_ = false;
  if (idle_resident_) idle_resident_->forget_place();
}

void loop::tell_leftovers() noexcept {
  for (resident* idle = idle_resident_; idle; idle = idle->next_idle_) idle->tell_leftovers();
  while (leftovers_) take_leftovers()->tell_leftovers();
  leftovers_count_ = 0;
}

void loop::keep_leftovers_of(spawned& ended) noexcept {
  if (++leftovers_count_ == leftovers_limit_) forget_finished_leftovers();
  intrusive_ptr_add_ref(&ended);
  loop_op& kept = ended;
  kept.next_ = std::exchange(leftovers_, &kept);
}

// So that those of a long call do not grow in number for as long as it lasts.
void loop::forget_finished_leftovers() noexcept {
  loop_op* rest = std::exchange(leftovers_, nullptr);
  leftovers_count_ = 1;
  while (rest) {
    loop_op* const kept = std::exchange(rest, rest->next_);
    ref_ptr<spawned> owner(static_cast<spawned*>(kept), false);
    if (owner->unfinished() == 0) continue;
    (void)owner.detach();
    kept->next_ = std::exchange(leftovers_, kept);
    ++leftovers_count_;
  }
  leftovers_limit_ = 2 * leftovers_count_ + 16;
}

ref_ptr<spawned> loop::take_leftovers() noexcept {
  loop_op* const kept = leftovers_;
  leftovers_ = std::exchange(kept->next_, nullptr);
  return ref_ptr<spawned>(static_cast<spawned*>(kept), false);
}

resident* loop::take_idle_resident() noexcept {
  resident* const idle = idle_resident_;
  if (!idle) return nullptr;
  idle_resident_ = std::exchange(idle->next_idle_, nullptr);
  --idle_residents_;
  return idle;
}

resident& loop::acquire_resident() {
  while (resident* const idle = take_idle_resident()) {
    if (idle->reusable()) return *idle;
    idle->retire();
  }
  const ref_ptr<resident> fresh(new resident(ref_ptr<loop>(this)));
  fresh->launch();
  return *fresh;
}

void loop::start(async_call& call, thread_state& thread) noexcept {
  begins_step();
  resident* host = nullptr;
  try {
    host = &acquire_resident();
  } catch (...) {
    call.fail(std::current_exception());
    return call.finish(value_cell());
  }
  try {
    host->run(call, thread);
  } catch (...) {
    // Asio drops the coroutine, by way of the queue. That ends the call, with this.
    call.fail(std::current_exception());
  }
}

}  // namespace bothworlds::detail
