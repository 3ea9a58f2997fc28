// SPDX-License-Identifier: BSL-1.0
//
// How the workers of a pool look for work and wait for it, and who of them is woken.
#include "loop.hpp"
#include "thread_state.hpp"
#include "worker_pool_core.hpp"

#include <chrono>
#include <utility>

#include <sched.h>

namespace bothworlds::detail {
namespace {

// A lookout lets the others get on with it while each of them takes an item in less than this.
constexpr std::chrono::microseconds short_call{2};
constexpr std::chrono::microseconds lookout_period{100};

}  // namespace

void worker_pool_core::close_slot() noexcept {
  work* const item = slot_.close();
  if (!item) return;
  item->in_pool_.store(true, std::memory_order_relaxed);
  queue_.push_front(*item);
}

void is_done_but_for_a_wake(const work* item) noexcept {
  if (pool_worker* const worker = this_thread_state().worker) worker->returns_from(item);
}

// What runs on top of another call, within one, or in a hook, is no end of what this worker does.
void pool_worker::returns_from(const work* item) noexcept {
  if (served_ != item) return;
  const std::lock_guard lock(pool_.mutex_);
  if (!std::exchange(returning_, true)) ++pool_.returning_;
}

void worker_pool_core::see_to_submitted(pool_lock& lock, const loop* turning) noexcept {
  if (!is_unattended()) return;
  nearness whom = nearness::any;
  if (turning) whom = turning->gives_its_cpu() ? nearness::here : nearness::elsewhere;
  if (whom == nearness::here && returning_ != 0) {
    if (queue_.size() <= returning_) return;
    whom = nearness::elsewhere;  // the CPU may be that of one who returns
  }
  wake_idle_worker(lock, whom);
}

// Of the first few: those at the end are to have their rest, and leave.
pool_worker* worker_pool_core::find_idle(bool here) noexcept {
  constexpr int most = 8;
  const int cpu = ::sched_getcpu();
  int looked_at = 0;
  for (pool_worker& worker : idle_) {
    if ((worker.cpu_ == cpu) == here) return &worker;
    if (++looked_at == most) break;
  }
  return nullptr;
}

void worker_pool_core::spread_idle(pool_lock& lock) noexcept {
  if (pool_worker* const found = find_idle(true)) wake(*found, lock);
}

bool worker_pool_core::wake_idle_worker(pool_lock& lock, nearness whom) noexcept {
  if (idle_.empty()) return false;
  pool_worker* const suits = whom == nearness::any ? nullptr : find_idle(whom == nearness::here);
  pool_worker& chosen = suits ? *suits : idle_.front();
  wake(chosen, lock);
  chosen.is_far_ = !suits && whom == nearness::here;
  return true;
}

void worker_pool_core::wake(pool_worker& chosen, pool_lock& lock) noexcept {
  idle_.erase(idle_.iterator_to(chosen));
  chosen.is_far_ = false;
  chosen.searching_ = true;
  ++searching_;
  lock.wakes(chosen.parker_);
}

work* worker_pool_core::next(pool_worker& self, pool_lock& lock) {
  for (;;) {
    // More workers are at it than may be: the surplus that was added for blocked ones leaves.
    if (is_surplus()) {
      if (!closed_ && rest(self, lock)) continue;
      stop_searching(self, lock);
      return nullptr;
    }
    // Who has been handed an item may have lost its CPU since.
    queue_handed();
    while (!queue_.empty()) {
      work* item = &queue_.front();
      queue_.pop_front();
      item->in_pool_.store(false, std::memory_order_relaxed);
      if (item->try_claim()) {
        ++taken_;
        stop_searching(self, lock);
        if (std::exchange(self.is_far_, false) && queue_.empty()) spread_idle(lock);
        return item;
      }
      lock.unlock();
      intrusive_ptr_release(item);
      lock.lock();
    }
    if (closed_ || !wait_for_work(self, lock)) {
      stop_searching(self, lock);
      return nullptr;
    }
  }
}

// True: it is a worker again. False: it has rested in vain, and ends. It leaves in the step that has
// found it to be surplus, so nobody can have relied on it meanwhile.
bool worker_pool_core::rest(pool_worker& self, pool_lock& lock) {
  all_.erase(all_.iterator_to(self));
  --threads_;
  resting_.push_front(self);
  // It may have been woken, or relied upon, for an item: another one is to come for it.
  stop_searching(self, lock);
  const auto deadline = parker::clock::now() + options_.idle_timeout;
  lock.unlock();
  const bool woken = self.parker_.park_until(deadline);
  lock.lock();
  if (self.idle_hook_.is_linked()) {
    resting_.erase(resting_.iterator_to(self));
    ++ending_;
    this_thread_state().worker = nullptr;  // nor does it count as blocked in its last hook
    return false;
  }
  if (!woken) await_wake(self, lock);
  all_.push_back(self);
  return true;
}

// This one has found work, or leaves: the next has to come if there is more.
void worker_pool_core::stop_searching(pool_worker& self, pool_lock& lock) noexcept {
  if (std::exchange(self.searching_, false)) --searching_;
  see_to_queue(lock);
}

bool worker_pool_core::wait_for_work(pool_worker& self, pool_lock& lock) {
  return (!spinning_ && wait_awake(self, lock)) || wait_asleep(self, lock);
}

bool worker_pool_core::wait_awake(pool_worker& self, pool_lock& lock) noexcept {
  if (!std::exchange(self.searching_, true)) ++searching_;
  spinning_ = true;
  called_.store(false, std::memory_order_relaxed);
  slot_.open(anybody);
  lock.unlock();
  const bool handed = short_wait_([this] { return slot_.open_for() != anybody; });
  const bool gathered = handed && lets_wait() && short_gather_([this] {
                          return called_.exchange(false, std::memory_order_relaxed);
                        });
  lock.lock();
  spinning_ = false;
  close_slot();
  if (gathered && !queue_.empty()) short_gather_.learn(queue_.size());
  // Handed something, and nothing is there: another one has it. Look out for the next.
  return handed || !queue_.empty() || closed_;
}

bool worker_pool_core::wait_asleep(pool_worker& self, pool_lock& lock) noexcept {
  if (std::exchange(self.searching_, false)) --searching_;
  idle_.push_front(self);
  bool looks_out = begin_lookout();
  for (;;) {
    const auto since = parker::clock::now();
    const std::uint64_t taken_before = taken_;
    self.cpu_ = ::sched_getcpu();
    lock.unlock();
    const bool woken =
        self.parker_.park_until(since + (looks_out ? lookout_period : options_.idle_timeout));
    lock.lock();
    if (!self.idle_hook_.is_linked()) {
      if (looks_out) lookout_ = false;
      if (!woken) await_wake(self, lock);
      return true;
    }
    if (looks_out) {
      queue_handed();
      looks_out = goes_on_looking_out(taken_ - taken_before, parker::clock::now() - since);
      if (looks_out || queue_.empty()) continue;
    }
    idle_.erase(idle_.iterator_to(self));
    // Somebody may have been relied upon to wake this one.
    return !queue_.empty();
  }
}

// It was chosen in the moment in which its time was over: its wake is on its way, and none is to be
// left over.
void worker_pool_core::await_wake(pool_worker& self, pool_lock& lock) noexcept {
  lock.unlock();
  self.parker_.park();
  lock.lock();
}

// To be asked by one that stands in idle_. Where nobody else is at work nothing is going to be queued
// behind somebody's back.
bool worker_pool_core::begin_lookout() noexcept {
  if (lookout_ || !lets_wait() || at_work() == 0 || !looks_out_.now()) return false;
  lookout_ = true;
  return true;
}

// So many items have been taken out of the queue meanwhile. Whether those who are at work cope: on the
// average each takes an item in a short time, and as much time will do for what is left.
bool worker_pool_core::goes_on_looking_out(std::uint64_t taken,
                                           parker::clock::duration meanwhile) noexcept {
  const std::size_t hands = at_work();
  lookout_ = hands != 0 && taken * short_call >= meanwhile * hands && queue_.size() <= taken;
  looks_out_.learn(lookout_);
  return lookout_;
}

}  // namespace bothworlds::detail
