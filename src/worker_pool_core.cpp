// SPDX-License-Identifier: BSL-1.0
#include "worker_pool_core.hpp"

#include "forked_child.hpp"
#include "lane.hpp"
#include "resources.hpp"
#include "thread_cache.hpp"
#include "thread_record.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"
#include "watch.hpp"

#include <bothworlds/error.hpp>

#include <algorithm>
#include <cstdio>
#include <utility>

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bothworlds::detail {
namespace {

worker_pool_options with_defaults(worker_pool_options options) {
  if (options.soft_limit == 0) options.soft_limit = 4 + boost::thread::hardware_concurrency();
  if (options.hard_limit == 0) options.hard_limit = std::max(512U, options.soft_limit);
  if (options.hard_limit < options.soft_limit)
    throw misuse_error(errc::invalid_options, std::source_location::current(),
                       "worker_pool_options: hard_limit is below soft_limit",
                       "  fix  leave hard_limit 0, or set it to at least soft_limit\n");
  return options;
}

// A new thread inherits the mask of its maker: every signal is left to the process's other threads.
class all_signals_blocked {
public:
  all_signals_blocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~all_signals_blocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
  sigset_t before_;
};

}  // namespace

worker_pool_core::worker_pool_core(worker_pool_options options)
    : options_(with_defaults(std::move(options))) {
  list_resource(*this);
}

worker_pool_core::~worker_pool_core() {
  unlist_resource(*this);
  for (boost::thread& thread : finished_) thread.detach();
}

void worker_pool_core::check_open(std::source_location where) const {
  // Looked at without the lock: in a forked child another thread may have held it for ever.
  if (is_of_parent_process())
    throw error(errc::forked_child, where, "this worker pool was made before fork(), in the parent",
                "  fix  make a pool in the child, or use the default pool, which the child has of "
                "its own\n");
  if (is_closed()) throw closed_error(where);  // submit() looks again, under the lock
}

bool worker_pool_core::may_grow() const noexcept {
  return threads_ + ending_ < options_.hard_limit && threads_ - blocked_ < options_.soft_limit;
}

worker_pool_core::admission worker_pool_core::submit(work& item, bool caller_can_run,
                                                     bool* saturated, const loop* turning) {
  if (is_of_parent_process()) check_open(item.where());
  item.queued_at_ = coarse_now();
  if (slot_.put(item, anybody)) return admission::queued;
  pool_lock lock(mutex_);
  if (closed_) throw closed_error(item.where());
  if (slot_.put(item, anybody)) return admission::queued;
  const std::size_t queued = queue_.size();
  const std::size_t free = free_workers();
  // A free worker takes its item at once: only what has to wait counts against the limit.
  if (queued >= free && queued - free >= options_.queue_limit && !may_grow()) {
    if (options_.when_full == on_full::reject)
      throw error(errc::queue_full, item.where(),
                  "the worker pool \"" + options_.name + "\" has " + std::to_string(queued) +
                      " calls queued, its limit",
                  "  fix  raise queue_limit, or await fewer calls at once\n");
    if (options_.when_full == on_full::caller_runs && caller_can_run) return admission::caller_runs;
  }
  intrusive_ptr_add_ref(&item);
  item.in_pool_.store(true, std::memory_order_relaxed);
  queue_.push_back(item);
  if (spinning_) lock.calls(called_);
  see_to_submitted(lock, turning);
  // Somebody comes for each of the items before this one, and there is one more who does; a lookout
  // does when it sees that it has to.
  if (queued < free) {
    item.waits_knowingly_ = is_looked_after();
    if (saturated) *saturated = item.waits_knowingly_;
    return admission::queued;
  }
  if (!may_grow()) {
    item.waits_knowingly_ = true;
    lock.unlock();
    watch_waits();
    if (saturated) *saturated = true;
    return admission::queued;
  }
  pool_worker* const rested = count_worker();
  if (rested) {
    lock.wakes(rested->parker_);
    return admission::queued;
  }
  lock.unlock();
  try {
    start_worker();
  } catch (...) {
    if (saturated) *saturated = true;
    no_thread_for(item, std::current_exception());
  }
  return admission::queued;
}

// The thread that was counted for the item could not be started: others come for it, or it is taken
// back, and this throws.
void worker_pool_core::no_thread_for(work& item, std::exception_ptr why) {
  pool_lock lock(mutex_);
  uncount_worker();
  const bool still_queued = item.pool_hook_.is_linked();
  // The live ones come to it when their items end. Without a limit each item has been promised a
  // thread: the others may stay for as long as the library lives.
  const bool somebody_comes = is_unlimited() ? queue_.size() <= free_workers() : threads_ != 0;
  if (somebody_comes || !still_queued) {
    item.waits_knowingly_ = still_queued;
    return refuse_hopeless(lock, why);
  }
  queue_.erase(queue_.iterator_to(item));
  // Others may have been queued meanwhile, trusting that this thread would start.
  if (threads_ == 0) refuse_queue(lock, why);
  lock.unlock();
  intrusive_ptr_release(&item);
  throw error(
      boost::system::errc::make_error_code(boost::system::errc::resource_unavailable_try_again),
      item.where(), "no thread can be started for the worker pool \"" + options_.name + "\"",
      "  why  the system refused a thread, and the pool has none yet\n"
      "  fix  look at the limits of threads and memory, and at "
      "worker_pool_options::stack_size\n");
}

pool_worker& worker_pool_core::take_resting() noexcept {
  pool_worker& chosen = resting_.front();
  resting_.pop_front();
  ++threads_;
  return chosen;
}

pool_worker* worker_pool_core::count_worker() noexcept {
  if (blocked_ != 0 && threads_ >= options_.soft_limit) ++compensations_;
  if (!resting_.empty()) return &take_resting();
  ++threads_;
  return nullptr;
}

void worker_pool_core::uncount_worker() noexcept {
  --threads_;
  // Somebody may have come to rest since nobody was found there.
  if (!resting_.empty() && wants_worker()) count_worker()->parker_.unpark();
  if (!has_threads()) all_left_.notify_all();
}

void worker_pool_core::start_worker() {
  boost::thread::attributes attributes;
  if (options_.stack_size != 0) attributes.set_stack_size(options_.stack_size);
  std::list<boost::thread> handle(1);
  const auto place = handle.begin();
  const all_signals_blocked scope;
  const ref_ptr<worker_pool_core> self(this);
  const std::lock_guard starting(starting_mutex_);
  *place = boost::thread(attributes, [self, place] { self->work_loop(place); });
  const std::lock_guard lock(mutex_);
  handles_.splice(handles_.end(), handle);
}

void worker_pool_core::work_loop(std::list<boost::thread>::iterator handle) noexcept {
  {
    const std::lock_guard started(starting_mutex_);
  }
  pool_worker self(*this);
  self.kernel_id_ = static_cast<int>(::syscall(SYS_gettid));
  thread_record::of_this_thread();
  self.handle_ = &*handle;
  self.state_ = &this_thread_state();
  this_thread_state().worker = &self;
  pool_lock lock(mutex_);
  all_.push_back(self);
  char name[16];  // as long as the kernel's may be, and no memory is needed
  std::snprintf(name, sizeof name, "%.11s-%u", options_.name.c_str(), ++names_);
  lock.unlock();
  ::pthread_setname_np(::pthread_self(), name);
  call_hook(options_.on_thread_start, "worker_pool_options::on_thread_start");
  lock.lock();
  while (work* item = next(self, lock)) {
    running_call current(*item);
    self.running_ = &current;
    lock.unlock();
    self.served_ = item;
    serve(item);
    self.served_ = nullptr;
    if (is_of_parent_process()) end_forked_child(&current.where);
    lock.lock();
    self.running_ = nullptr;
    if (std::exchange(self.returning_, false)) --returning_;
    ++completed_;
  }
  lock.unlock();
  call_hook(options_.on_thread_stop, "worker_pool_options::on_thread_stop");
  this_thread_state().worker = nullptr;
  lock.lock();
  if (self.all_hook_.is_linked()) {
    all_.erase(all_.iterator_to(self));
    --threads_;
  } else {
    --ending_;  // it left when it went to rest
  }
  // shutdown() joins those it waits for, so that their threads are really gone; nobody waits for
  // the others.
  if (closed_) {
    finished_.splice(finished_.end(), handles_, handle);
  } else {
    handle->detach();
    handles_.erase(handle);
  }
  // While this one was on its way out it still counted, so others may have blocked without starting
  // one more. The successor is counted before anybody can find that there is no thread left.
  const bool needed = wants_worker();
  pool_worker* const successor = needed ? count_worker() : nullptr;
  if (!has_threads()) all_left_.notify_all();
  lock.unlock();
  if (needed) add_counted_worker(successor);
}

void worker_pool_core::remove(work& item) noexcept {
  // False also while it stands in the slot: whoever takes it finds it claimed, and lets go of it.
  if (!item.in_pool_.load(std::memory_order_relaxed)) return;
  {
    const std::lock_guard lock(mutex_);
    if (!item.pool_hook_.is_linked()) return;
    queue_.erase(queue_.iterator_to(item));
  }
  intrusive_ptr_release(&item);
}

bool worker_pool_core::wants_worker() const noexcept {
  return queue_.size() > free_workers() && may_grow();
}

void worker_pool_core::add_counted_worker(pool_worker* rested) noexcept {
  if (rested) return rested->parker_.unpark();
  try {
    start_worker();
  } catch (...) {
    const std::exception_ptr why = std::current_exception();
    pool_lock lock(mutex_);
    uncount_worker();
    refuse_hopeless(lock, why);
  }
}

void worker_pool_core::worker_blocks() noexcept {
  pool_worker* rested = nullptr;
  {
    pool_lock lock(mutex_);
    ++blocked_;
    // A lookout would come later.
    if (searching_ == 0 && !queue_.empty()) wake_idle_worker(lock, nearness::here);
    if (!wants_worker()) return;
    rested = count_worker();
  }
  add_counted_worker(rested);
}

bool worker_pool_core::may_add_worker() const noexcept {
  const std::lock_guard lock(mutex_);
  return may_grow();
}

bool worker_pool_core::has_free_worker() const noexcept {
  const std::lock_guard lock(mutex_);
  if (closed_) return true;  // who calls submit() hears so
  return queue_.size() < free_workers() || (threads_ < options_.soft_limit && may_grow());
}

running_call::running_call(const work& item, running_call* outer) noexcept
    : name(item.name()), where(item.where()), since(coarse_now()), below(outer) {}

void pool_worker::run_on_top(work* item) noexcept {
  running_call current(*item, running_);  // nobody else writes that
  {
    const std::lock_guard lock(pool_.mutex_);
    running_ = &current;
  }
  serve(item);
  if (pool_.is_of_parent_process()) return;  // a child, where the mutex may be held for ever
  const std::lock_guard lock(pool_.mutex_);
  running_ = current.below;
  ++pool_.completed_;
}

void pool_worker::blocks() noexcept {
  if (blocks_++ == 0) pool_.worker_blocks();
}

void pool_worker::resumes() noexcept {
  if (pool_.is_of_parent_process()) return;  // a child, where the mutex may be held for ever
  if (--blocks_ != 0) return;
  const std::lock_guard lock(pool_.mutex_);
  --pool_.blocked_;
}

}  // namespace bothworlds::detail
