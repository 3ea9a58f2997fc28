// SPDX-License-Identifier: BSL-1.0
#include "lane.hpp"

#include "describe.hpp"
#include "forked_child.hpp"
#include "loop.hpp"
#include "per_process.hpp"
#include "resources.hpp"
#include "thread_cache.hpp"
#include "thread_record.hpp"
#include "thread_state.hpp"
#include "watch.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/error.hpp>

#include <utility>

namespace bothworlds::detail {

lane::lane(kind what) noexcept : kind_(what), running_(what == kind::bound) {
  if (kind_ != kind::of_a_thread) return;
  const thread_state& thread = this_thread_state();
  server_ = &thread;
  if (thread.worker) pool_ = &thread.worker->pool();
  list_resource(*this);
}

lane::~lane() {
  if (kind_ == kind::of_a_thread) unlist_resource(*this);
}

lane::queue& lane::queue_at(place where) noexcept {
  switch (where) {
    case place::nested: return nested_;
    case place::main: return main_;
    case place::offers: return offers_;
    case place::last: break;
  }
  return last_;
}

void lane::put(place where, work& item) noexcept {
  if (where != place::offers)
    item.queued_at_ = coarse_now();  // an offer has it from its pool
  item.lane_queue_ = static_cast<unsigned char>(where);
  intrusive_ptr_add_ref(&item);
  queue_at(where).push_back(item);
  if (where == place::main) ++main_size_;
}

void lane::unlink(work& item) noexcept {
  const auto where = static_cast<place>(item.lane_queue_);
  queue& from = queue_at(where);
  from.erase(from.iterator_to(item));
  if (where == place::main) --main_size_;
  if (where == place::nested) nested_count_.fetch_sub(1, std::memory_order_seq_cst);
  if (where == place::offers) offer_count_.fetch_sub(1, std::memory_order_seq_cst);
}

bool lane::push_nested(work& item) noexcept {
  nested_count_.fetch_add(1, std::memory_order_seq_cst);
  if (kind_ == kind::of_a_thread && open_in(frames_.load(std::memory_order_seq_cst)) == 0) {
    nested_count_.fetch_sub(1, std::memory_order_seq_cst);
    return false;
  }
  {
    const std::lock_guard lock(mutex_);
    if (dedicated() && !running_) {
      // The frame has closed meanwhile, and the lane has given its thread back.
      nested_count_.fetch_sub(1, std::memory_order_seq_cst);
      return false;
    }
    put(place::nested, item);
  }
  wake();
  return true;
}

void lane::push_main(work& item) {
  if (kind_ == kind::bound) {
    if (push_bound(item)) return;
    throw error(errc::wrong_thread, item.where(),
                "the thread of this chain's thread-sensitive calls has gone with the thread_bound "
                "it belonged to",
                "  why  the task that makes this call has outlived the call that started it\n"
                "  fix  await it before that call returns\n");
  }
  bool start = false;
  {
    const std::lock_guard lock(mutex_);
    put(place::main, item);
    start = !std::exchange(running_, true);
  }
  if (!start) {
    watch_waits();
    return wake();
  }
  try {
    run_on_library_thread([served = ref_ptr<lane>(this)] { served->serve_until_retired(); });
  } catch (...) {
    give_back(item);
    throw;
  }
}

bool lane::push_bound(work& item) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (retired_) return false;
    put(place::main, item);
  }
  watch_waits();
  wake();
  return true;
}

bool lane::push_last(work& item) noexcept {
  const std::lock_guard lock(mutex_);
  if (!running_) return false;
  put(place::last, item);
  return true;
}

void lane::give_back(work& item) noexcept {
  const std::exception_ptr why = std::current_exception();
  {
    const std::lock_guard lock(mutex_);
    running_ = false;
    if (item.lane_hook_.is_linked()) {
      unlink(item);
      intrusive_ptr_release(&item);
    }
  }
  // What others have queued meanwhile, trusting that the thread would start, has nobody to run it
  // either.
  while (work* other = take(place::main)) other->refuse(why);
}

bool lane::push_offer(work& item, std::uint32_t epoch) noexcept {
  {
    const std::lock_guard lock(mutex_);
    put(place::offers, item);
    offer_count_.fetch_add(1, std::memory_order_seq_cst);
    // A thread that closes its last frame writes the epoch first and then looks at the count: it
    // sees this offer, or this sees the new epoch.
    if (epoch_in(frames_.load(std::memory_order_seq_cst)) != epoch) {
      unlink(item);
      intrusive_ptr_release(&item);  // the caller has one, too
      return false;
    }
  }
  if (this_thread_state().own_lane.get() != this) wake();
  return true;
}

bool lane::put_into_slot(work& item, const async_call* call) noexcept {
  const work_slot::key seen = slot_.open_for();
  if ((seen & ~slot_roomy) != slot_for(call) || !slot_.put(item, seen)) return false;
  parker_.unpark();
  return true;
}

void lane::remove(work& item) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!item.lane_hook_.is_linked()) return;
    unlink(item);
  }
  intrusive_ptr_release(&item);
}

void lane::wake() noexcept {
  // What this announces was written sequentially consistent, as sleeping_in_ is: either it is seen
  // by the thread before it sleeps, or the thread is seen to sleep here.
  parker_.unpark();
  if (!sleeping_in_.load(std::memory_order_seq_cst)) return;
  const std::lock_guard lock(mutex_);
  if (loop* where = sleeping_in_.load(std::memory_order_seq_cst)) where->wake();
}

void lane::forget_loops() noexcept {
  sleeping_in_.store(nullptr, std::memory_order_seq_cst);
  const std::lock_guard lock(mutex_);
}

void lane::retire() noexcept {
  {
    const std::lock_guard lock(mutex_);
    retired_ = true;
  }
  wake();
}

void lane::open_frame() noexcept {
  // Who pushes work for this frame has heard of it through the call, which is published after this.
  frames_.store(frames_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void lane::close_frame() noexcept {
  const std::uint64_t left = frames_.load(std::memory_order_relaxed) - 1;
  if (open_in(left) != 0) return frames_.store(left, std::memory_order_release);
  // The last one: offers belong to a chain that is over (they still stand in their pool's queue),
  // and what is in nested_ on a plain thread would find nobody again.
  frames_.store(left + (std::uint64_t{1} << epoch_shift), std::memory_order_seq_cst);
  if (has_offers()) forget_offers();
  const process_mark process;
  if (kind_ == kind::of_a_thread)
    while (!process.is_of_parent() && has_nested())
      if (work* item = take_nested()) serve(item);
}

void lane::forget_offers() noexcept {
  const std::lock_guard lock(mutex_);
  // Unlinked under the lock, so that remove() never meets a queue that is not ours.
  while (!offers_.empty()) {
    work& item = offers_.front();
    unlink(item);
    intrusive_ptr_release(&item);
  }
}

work* lane::take(place where) noexcept {
  queue& from = queue_at(where);
  for (;;) {
    work* item = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (from.empty()) return nullptr;
      item = &from.front();
      unlink(*item);
      if (where == place::main || where == place::nested) {
        running_name_ = item->name();
        running_where_ = item->where();
        running_since_ = coarse_now();
      }
    }
    if (item->try_claim()) return item;
    intrusive_ptr_release(item);
  }
}

void lane::serve_until_retired() noexcept {
  const lane_occupancy here(*this);
  do serve_queues();
  while (!vacate());
}

void lane::serve_queues() noexcept {
  for (;;) {
    // A forked child has forgotten whose thread this is.
    if (this_thread_state().own_lane.get() != this) end_forked_child(&running_where_);
    work* item = take_nested();
    if (!item) item = take(place::main);
    if (item) {
      serve(item);
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      running_since_ = 0;
      if (retired_ && main_.empty() && nested_.empty()) return;
    }
    parker_.park();
  }
}

bool lane::vacate() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!main_.empty() || !nested_.empty()) return false;
    running_ = false;
    server_ = nullptr;
  }
  while (work* item = take(place::last)) serve(item);
  return true;
}

void lane::shows(const char* what, std::source_location where) noexcept {
  const std::lock_guard lock(mutex_);
  running_name_ = what;
  running_where_ = where;
  running_since_ = what ? coarse_now() : 0;
}

lane_stats lane::stats() const {
  lane_stats stats;
  const std::lock_guard lock(mutex_);
  const std::int64_t now = coarse_now();
  stats.queued = main_size_;
  if (main_size_ != 0) stats.oldest_queued = age(main_.front().queued_at_, now);
  stats.busy = running_since_ != 0;
  if (!stats.busy) return stats;
  stats.running = running_name_ ? running_name_ : describe(running_where_);
  stats.running_for = age(running_since_, now);
  return stats;
}

const char* lane::title() const noexcept {
  switch (kind_) {
    case kind::of_a_thread: return "the thread of its chain";
    case kind::dedicated: return "the thread of the thread-sensitive calls";
    case kind::bound: return "the thread of a thread_bound";
  }
  return "";
}

lane_occupancy::lane_occupancy(lane& served)
    : served_(served),
      thread_(this_thread_state()),
      previous_(std::exchange(thread_.own_lane, ref_ptr<lane>(&served))),
      previous_home_(std::exchange(thread_.home, ref_ptr<loop>())) {
  list_resource(served);
  thread_record::of_this_thread();
  const std::lock_guard lock(served.mutex_);
  served.server_ = &thread_;
}

lane_occupancy::~lane_occupancy() {
  unlist_resource(served_);
  if (thread_.home) thread_.home->close();
  thread_.home = previous_home_;
  thread_.own_lane = previous_;
}

namespace {

struct shared_lane {
  const ref_ptr<lane> instance{new lane(lane::kind::dedicated)};
};

constinit per_process<shared_lane> the_process_lane;

}  // namespace

lane& process_lane() { return *the_process_lane.get().instance; }

lane* find_process_lane() noexcept {
  const shared_lane* const known = the_process_lane.find();
  return known ? known->instance.get() : nullptr;
}

void serve(work* item) noexcept {
  thread_state& thread = this_thread_state();
  loop* const driving = std::exchange(thread.driving, nullptr);
  item->run();
  this_thread_state().driving = driving;
}

}  // namespace bothworlds::detail
