// SPDX-License-Identifier: BSL-1.0
#include "lane.hpp"

#include "loop.hpp"
#include "resources.hpp"
#include "thread_cache.hpp"
#include "thread_record.hpp"
#include "thread_state.hpp"
#include "watch.hpp"

#include <utility>

namespace bothworlds::detail {

/// What a dedicated lane runs on the thread it has taken.
class lane::turn final : public work {
public:
  explicit turn(lane& owner) noexcept : work(std::source_location::current()), lane_(&owner) {}

  void run() noexcept override {
    const ref_ptr<turn> self(this, false);
    lane_->serve_until_retired();
  }

  // Only a thread cache that is shut down refuses, and ours never is.
  void refuse(std::exception_ptr) noexcept override { const ref_ptr<turn> self(this, false); }

private:
  const ref_ptr<lane> lane_;
};

lane::lane(kind what) noexcept : kind_(what) {
  if (kind_ == kind::of_a_thread) server_ = &this_thread_state();
  if (kind_ == kind::of_a_thread) list_resource(*this);
}

lane::~lane() {
  if (kind_ == kind::of_a_thread) unlist_resource(*this);
}

void lane::put(queue& into, queue_name name, work& item) noexcept {
  intrusive_ptr_add_ref(&item);
  item.lane_queue_ = name;
  into.push_back(item);
}

bool lane::push_nested(work& item) noexcept {
  nested_count_.fetch_add(1, std::memory_order_seq_cst);
  if (kind_ == kind::of_a_thread && open_frames_.load(std::memory_order_seq_cst) == 0) {
    nested_count_.fetch_sub(1, std::memory_order_seq_cst);
    return false;
  }
  {
    const std::lock_guard lock(mutex_);
    if (kind_ == kind::dedicated && !running_) {
      // The frame has closed meanwhile, and the lane has given its thread back.
      nested_count_.fetch_sub(1, std::memory_order_seq_cst);
      return false;
    }
    item.queued_at_ = coarse_now();
    put(nested_, in_nested, item);
  }
  wake();
  return true;
}

void lane::push_main(work& item) {
  bool start = false;
  {
    const std::lock_guard lock(mutex_);
    item.queued_at_ = coarse_now();
    put(main_, in_main, item);
    start = !std::exchange(running_, true);
  }
  if (!start) {
    watch_waits();
    return wake();
  }
  try {
    const ref_ptr<turn> first(new turn(*this));
    thread_cache().submit(*first, false);
  } catch (...) {
    give_back(item);
    throw;
  }
}

void lane::give_back(work& item) noexcept {
  const std::exception_ptr why = std::current_exception();
  {
    const std::lock_guard lock(mutex_);
    running_ = false;
    if (item.lane_hook_.is_linked()) {
      main_.erase(main_.iterator_to(item));
      intrusive_ptr_release(&item);
    }
  }
  // What others have queued meanwhile, trusting that the thread would start, has nobody to run it either.
  while (work* other = take(main_, nullptr)) other->refuse(why);
}

bool lane::push_offer(work& item, std::uint32_t epoch) noexcept {
  {
    const std::lock_guard lock(mutex_);
    put(offers_, in_offers, item);
    offer_count_.fetch_add(1, std::memory_order_seq_cst);
    // A thread that closes its last frame writes the epoch first and then looks at the count: it sees this offer, or
    // this sees the new epoch.
    if (epoch_.load(std::memory_order_seq_cst) != epoch) {
      offers_.pop_back();
      offer_count_.fetch_sub(1, std::memory_order_seq_cst);
      intrusive_ptr_release(&item);  // the caller has one, too
      return false;
    }
  }
  if (this_thread_state().own_lane.get() != this) wake();
  return true;
}

void lane::remove(work& item) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!item.lane_hook_.is_linked()) return;
    queue& from = item.lane_queue_ == in_offers ? offers_ : item.lane_queue_ == in_nested ? nested_ : main_;
    from.erase(from.iterator_to(item));
    if (&from == &offers_) offer_count_.fetch_sub(1, std::memory_order_seq_cst);
    if (&from == &nested_) nested_count_.fetch_sub(1, std::memory_order_seq_cst);
  }
  intrusive_ptr_release(&item);
}

void lane::wake() noexcept {
  // What this announces was written sequentially consistent, as sleeping_in_ is: either it is seen by the thread
  // before it sleeps, or the thread is seen to sleep here.
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
  open_frames_.store(open_frames_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void lane::close_frame() noexcept {
  const std::uint32_t left = open_frames_.load(std::memory_order_relaxed) - 1;
  open_frames_.store(left, std::memory_order_seq_cst);
  if (left != 0) return;
  // The last one: offers belong to a chain that is over (they still stand in their pool's queue), and what is
  // in nested_ on a plain thread would find nobody again.
  forget_offers();
  if (kind_ == kind::of_a_thread)
    while (has_nested())
      if (work* item = take_nested()) serve(item);
}

void lane::forget_offers() noexcept {
  epoch_.store(epoch_.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
  if (!has_offers()) return;
  const std::lock_guard lock(mutex_);
  offer_count_.store(0, std::memory_order_seq_cst);
  // Unlinked under the lock, so that remove() never meets a queue that is not ours.
  while (!offers_.empty()) {
    work& item = offers_.front();
    offers_.pop_front();
    intrusive_ptr_release(&item);
  }
}

work* lane::take(queue& from, std::atomic<std::uint32_t>* count) noexcept {
  for (;;) {
    work* item = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (from.empty()) return nullptr;
      item = &from.front();
      from.pop_front();
      if (count) count->fetch_sub(1, std::memory_order_seq_cst);
      if (&from != &offers_) {
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
  thread_state& thread = this_thread_state();
  // The blocking calls of the callables served here open their frames on this lane, and a loop that they have to
  // make here belongs to it.
  const ref_ptr<lane> previous = std::exchange(thread.own_lane, ref_ptr<lane>(this));
  const ref_ptr<loop> previous_home = std::exchange(thread.home, ref_ptr<loop>());
  list_resource(*this);
  thread_record::of_this_thread();
  {
    const std::lock_guard lock(mutex_);
    server_ = &thread;
  }
  for (;;) {
    work* item = take_nested();
    if (!item) item = take(main_, nullptr);
    if (item) {
      serve(item);
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      if (retired_ && main_.empty() && nested_.empty()) {
        running_ = false;
        server_ = nullptr;
        break;
      }
    }
    parker_.park();
  }
  unlist_resource(*this);
  if (thread.home) thread.home->close();
  thread.home = previous_home;
  thread.own_lane = previous;
}

lane& process_lane() {
  // Never destroyed: its thread may be at work while the process ends. In a forked child the thread does not
  // exist, so the child makes its own.
  struct generation {
    std::uint32_t forks;
    lane* instance;
  };
  static std::atomic<generation*> current{nullptr};
  generation* known = current.load(std::memory_order_acquire);
  if (known && known->forks == fork_generation()) return *known->instance;
  auto made = new lane(lane::kind::dedicated);
  intrusive_ptr_add_ref(made);
  auto* fresh = new generation{fork_generation(), made};
  if (current.compare_exchange_strong(known, fresh, std::memory_order_acq_rel)) return *made;
  delete fresh;
  intrusive_ptr_release(made);
  return *known->instance;
}

void serve(work* item) noexcept {
  thread_state& thread = this_thread_state();
  loop* const driving = std::exchange(thread.driving, nullptr);
  item->run();
  this_thread_state().driving = driving;
}

}  // namespace bothworlds::detail
