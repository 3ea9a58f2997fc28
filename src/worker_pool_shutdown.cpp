// SPDX-License-Identifier: BSL-1.0
//
// How a worker pool ends, and how what is queued there is refused: because the pool is shut down, or
// because no thread can be had.
#include "exception_from.hpp"
#include "thread_state.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/error.hpp>

#include <algorithm>
#include <utility>

namespace bothworlds::detail {

error worker_pool_core::closed_error(std::source_location where) {
  return error(errc::pool_closed, where, "the worker pool is shut down",
               "  fix  keep the pool until its last call has ended, or use the default pool\n");
}

namespace {

// With the reference of the queue that it stood in.
void refuse_or_release(work& item, const std::exception_ptr& why) noexcept {
  if (item.try_claim())
    item.refuse(why);
  else
    intrusive_ptr_release(&item);
}

}  // namespace

void worker_pool_core::refuse_queue(pool_lock& lock, std::exception_ptr why) noexcept {
  while (!queue_.empty()) {
    work* item = &queue_.front();
    queue_.pop_front();
    lock.unlock();
    refuse_or_release(*item, why);
    lock.lock();
  }
}

// A thread could not be started. Where none is left nobody comes for what is queued. Where all are
// blocked, it may be for the very items that are queued here: those whose submitters believed that
// a worker was free stand nowhere else.
void worker_pool_core::refuse_hopeless(pool_lock& lock, std::exception_ptr why) noexcept {
  if (threads_ == 0) return refuse_queue(lock, why);
  const auto trusting = [](const work& item) { return !item.waits_knowingly_; };
  while (threads_ == blocked_) {
    const auto found = std::find_if(queue_.begin(), queue_.end(), trusting);
    if (found == queue_.end()) return;
    work& item = *found;
    queue_.erase(found);
    lock.unlock();
    refuse_or_release(item, why);
    lock.lock();
  }
}

void worker_pool_core::join_finished(pool_lock& lock) noexcept {
  std::list<boost::thread> ended;
  ended.splice(ended.end(), finished_);
  lock.unlock();
  for (boost::thread& thread : ended) {
    if (thread.get_id() == boost::this_thread::get_id())
      thread.detach();
    else {
      const boost::this_thread::disable_interruption no_interruption;
      thread.join();
    }
  }
  lock.lock();
}

std::vector<leftover> worker_pool_core::shutdown(
    const std::chrono::steady_clock::time_point* deadline) {
  if (is_of_parent_process()) return {};  // its threads do not exist in this process
  pool_lock lock(mutex_);
  closed_ = true;
  close_slot();
  while (wake_idle_worker(lock, nearness::any)) {
  }
  while (!resting_.empty()) take_resting().parker_.unpark();
  const auto left = [&] { return !has_threads(); };
  if (!deadline)
    all_left_.wait(lock, left);
  else
    all_left_.wait_until(lock, *deadline, left);
  // Without a deadline nothing is left, and no memory is needed: a destructor may call this.
  std::vector<leftover> leftovers;
  std::exception_ptr no_memory;
  try {
    leftovers = list_unfinished();
  } catch (...) {
    no_memory = std::current_exception();
  }
  if (!queue_.empty())
    refuse_queue(lock,
                 exception_from([] { return closed_error(std::source_location::current()); }));
  join_finished(lock);
  if (no_memory) std::rethrow_exception(no_memory);
  return leftovers;
}

}  // namespace bothworlds::detail
