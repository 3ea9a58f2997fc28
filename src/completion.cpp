// SPDX-License-Identifier: BSL-1.0
#include "completion.hpp"

#include "blocked_thread.hpp"
#include "thread_record.hpp"
#include "thread_state.hpp"

#include <bothworlds/detail/async_call.hpp>

#include <memory>
#include <mutex>

namespace bothworlds::detail {

void completion::set() noexcept {
  for (;;) {
    ref_ptr<lane> woken;
    {
      const std::lock_guard lock(mutex_);
      set_.store(true, std::memory_order_release);
      if (waiters_.empty()) return;
      woken = std::move(waiters_.front().thread);
      waiters_.pop_front();
    }
    woken->wake();
  }
}

bool completion::wait_until(clock::time_point deadline, async_call* waited_for) {
  if (is_set()) return true;
  thread_state& thread = this_thread_state();
  if (!thread.own_lane) thread.own_lane = new lane(lane::kind::of_a_thread);
  lane& mine = *thread.own_lane;
  waiter self{thread.own_lane, {}};
  {
    const std::lock_guard lock(mutex_);
    if (is_set()) return true;
    waiters_.push_back(self);
  }
  const process_mark process;
  blocked_thread blocked(thread, mine);
  bool late = false;
  while (!is_set() && !late) {
    if (work* item = blocked.next()) {
      blocked.run(item);
      if (!process.is_of_parent()) continue;
      std::construct_at(&self.hook);  // forgotten, not unlinked, for which the mutex is needed
      return is_set();
    }
    blocked.sleeps();
    if (waited_for) waited_for->falls_asleep(nullptr);
    if (deadline == clock::time_point::max())
      mine.parking().park();
    else
      late = !mine.parking().park_until(deadline);
    if (waited_for) thread_record::wakes_up();
  }
  const std::lock_guard lock(mutex_);
  if (self.hook.is_linked()) waiters_.erase(waiters_.iterator_to(self));
  return is_set();
}

}  // namespace bothworlds::detail
