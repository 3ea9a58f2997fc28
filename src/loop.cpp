// SPDX-License-Identifier: BSL-1.0
#include "loop.hpp"

#include "forked_child.hpp"
#include "lane.hpp"
#include "resident.hpp"
#include "spawned.hpp"
#include "thread_cache.hpp"
#include "thread_record.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/crossing.hpp>

#include <chrono>
#include <memory>
#include <new>

namespace bothworlds::detail {
namespace {

struct never_queued final : loop_op {
  void take_turn(bool) noexcept override {}
};

// Stand in place of the queue of arrivals: of a closed loop; of one whose driver sleeps, or is about
// to.
constinit never_queued closed_mark;
constinit never_queued sleep_mark;

/// Hands out one block of memory, for the one operation that Asio keeps in it at a time.
template <class T>
class one_block_allocator {
public:
  using value_type = T;
  explicit one_block_allocator(void* block) noexcept : block_(block) {}
  template <class U>
  one_block_allocator(const one_block_allocator<U>& other) noexcept : block_(other.block()) {}

  T* allocate(std::size_t count) {
    static_assert(sizeof(T) <= 128);
    (void)count;
    return static_cast<T*>(block_);
  }
  void deallocate(T*, std::size_t) noexcept {}
  void* block() const noexcept { return block_; }
  friend bool operator==(const one_block_allocator& a, const one_block_allocator& b) noexcept {
    return a.block_ == b.block_;
  }

private:
  void* block_;
};

/// A function that waits in a loop's completion queue.
struct queued_function final : recycled, loop_op {
  queued_function(const chain_node& where, continuation&& what)
      : node(&where), function(std::move(what)) {}

  void take_turn(bool deliver) noexcept override {
    const std::unique_ptr<queued_function> self(this);
    if (!deliver) return;
    const node_scope scope(node.get());
    try {
      function();
    } catch (...) {
      report_unhandled("a handler on a loop of async_to_sync");
    }
  }

  ref_ptr<const chain_node> node;
  continuation function;
};

}  // namespace

/// The call for a helper; kept for the next one. It owns what it needs while it is under way.
class loop::help final : public work {
public:
  help() noexcept : work(std::source_location::current()) {}

  void call(loop& offered) noexcept {
    renew();
    offered_ = &offered;
    owner_ = &offered.owner_;
  }
  /// It was not queued.
  void forget() noexcept {
    offered_.reset();
    owner_.reset();
  }
  void run() noexcept override {
    ref_ptr<help> self(this, false);
    const ref_ptr<loop> offered = std::move(offered_);
    const ref_ptr<lane> owner = std::move(owner_);
    self.reset();  // the next call may use it from now on
    if (offered->help_out()) owner->wake();
  }
  // Only a pool that is shut down refuses, and the thread cache never is; or it has no thread: then
  // the owner takes the loop back when it wants it.
  void refuse(std::exception_ptr) noexcept override {
    ref_ptr<help> self(this, false);
    const ref_ptr<loop> offered = std::move(offered_);
    const ref_ptr<lane> owner = std::move(owner_);
    self.reset();
    offered->helper_comes_.store(false, std::memory_order_seq_cst);
  }

private:
  ref_ptr<loop> offered_;
  ref_ptr<lane> owner_;
};

loop::loop(lane& owner) : owner_(owner), io_(std::in_place, 1), work_(io_->get_executor()) {}

loop::~loop() = default;

// In line with what others have pushed before. It is awake, and looks at the queue next.
bool loop::push_here(loop_op& op) noexcept {
  if (loop_op* const newest = arrivals_.load(std::memory_order_relaxed)) {
    if (newest == &closed_mark) return false;
    take_arrivals();
  }
  append(op);
  return true;
}

bool loop::push(loop_op& op, const work* ended) noexcept {
  if (turns_here()) return push_here(op);
  loop_op* newest = arrivals_.load(std::memory_order_relaxed);
  while (newest != &sleep_mark) {
    if (newest == &closed_mark) return refuse_push();
    op.next_ = newest;
    // From here on the loop may be gone: what is pushed may be the last to own it.
    if (arrivals_.compare_exchange_weak(newest, &op, std::memory_order_release,
                                        std::memory_order_relaxed))
      return true;
  }
  return push_and_wake(op, ended);
}

// It is closed for good: who cannot push sees what closing it has done. False.
bool loop::refuse_push() const noexcept {
  return arrivals_.load(std::memory_order_acquire) != &closed_mark;
}

bool loop::push_and_wake(loop_op& op, const work* ended) noexcept {
  const ref_ptr<loop> self(this);
  loop_op* newest = arrivals_.load(std::memory_order_relaxed);
  do {
    if (newest == &closed_mark) return refuse_push();
    op.next_ = newest == &sleep_mark ? nullptr : newest;
  } while (!arrivals_.compare_exchange_weak(newest, &op, std::memory_order_acq_rel,
                                            std::memory_order_relaxed));
  if (newest != &sleep_mark) return true;
  if (ended) is_done_but_for_a_wake(ended);
  wake_driver();
  return true;
}

// Who pushes takes the mark away, and wakes the driver: then nobody else has to.
void loop::wake() noexcept {
  if (arrivals_.load(std::memory_order_seq_cst) == &sleep_mark) wake_driver();
}

void loop::wake_driver() noexcept {
  // Asio goes on using the io_context after what was posted may have run, and the loop may be
  // closed by then.
  const std::lock_guard lock(wake_mutex_);
  if (closed_ || wake_posted_.exchange(true, std::memory_order_acq_rel)) return;
  const one_block_allocator<void*> memory(wake_storage_);
  // Asio frees the block before it calls this, so from then on the next wake may use it.
  const auto executor = asio::require(io_->get_executor(), asio::execution::blocking.never,
                                      asio::execution::allocator(memory));
  executor.execute([this] { wake_posted_.store(false, std::memory_order_release); });
}

void loop::execute(const chain_node& node, continuation&& function, bool may_run_now) {
  if (may_run_now && turns_here()) {
    thread_record::stirs();
    begins_step();                                // Asio may just have woken in sleep()
    const ref_ptr<const chain_node> kept(&node);  // the function may destroy the executor
    const node_scope scope(&node);
    try {
      function();
    } catch (...) {
      report_unhandled("a handler on a loop of async_to_sync");
    }
    return;
  }
  auto* queued = new queued_function(node, std::move(function));
  if (!push(*queued)) queued->take_turn(false);
}

bool loop::turns_here() const noexcept { return this_thread_state().driving == this; }

bool loop::try_drive() noexcept {
  role seen = role_.load(std::memory_order_acquire);
  if (seen == role::nobody) {
    role_.store(role::owner, std::memory_order_relaxed);  // nobody else takes it from there
    return true;
  }
  return seen == role::offered &&
         role_.compare_exchange_strong(seen, role::owner, std::memory_order_acquire);
}

void loop::offer() noexcept {
  publish_offers();
  role_.store(role::offered, std::memory_order_seq_cst);
  // One that is on its way looks after it has said so: it sees this offer, or this sees that it has
  // come.
  if (helper_comes_.load(std::memory_order_seq_cst)) return;
  helper_comes_.store(true, std::memory_order_relaxed);
  try {
    if (!help_ || help_->owners() != 1) help_ = make_counted<help>();
    help_->call(*this);
    thread_cache().submit(*help_, false);
  } catch (...) {
    // No thread to be had: the loop rests until its owner takes it back. Nothing is lost.
    if (help_) help_->forget();
    helper_comes_.store(false, std::memory_order_relaxed);
    role seen = role::offered;
    role_.compare_exchange_strong(seen, role::nobody, std::memory_order_relaxed);
  }
}

void loop::release() noexcept { role_.store(role::nobody, std::memory_order_release); }

void loop::ask_back() noexcept {
  role seen = role::helper;
  if (role_.compare_exchange_strong(seen, role::asked_back, std::memory_order_seq_cst)) wake();
}

bool loop::keep_helper() noexcept {
  role seen = role::asked_back;
  return role_.compare_exchange_strong(seen, role::helper, std::memory_order_relaxed) ||
         seen == role::helper;
}

bool loop::help_out() noexcept {
  helper_comes_.store(false, std::memory_order_seq_cst);
  role seen = role::offered;
  if (!role_.compare_exchange_strong(seen, role::helper, std::memory_order_seq_cst)) return false;
  struct until_asked_back final : driver {
    explicit until_asked_back(const loop& driven) noexcept : subject(driven) {}
    bool should_leave() const noexcept override { return subject.is_asked_back(); }
    void about_to_sleep(loop& in) const noexcept override {
      thread_record::falls_asleep(nullptr, &in);
    }
    void woke_up() const noexcept override { thread_record::wakes_up(); }
    const loop& subject;
  };
  do {
    turn(until_asked_back(*this));
    if (is_of_parent_process()) end_forked_child(nullptr);
    seen = role::asked_back;
    // Fails where the owner has found other work and wants the helper to go on.
  } while (!role_.compare_exchange_strong(seen, role::nobody, std::memory_order_release,
                                          std::memory_order_relaxed));
  return true;
}

void loop::take_arrivals() noexcept {
  if (arrivals_.load(std::memory_order_relaxed) == &closed_mark) return;
  loop_op* newest = arrivals_.exchange(nullptr, std::memory_order_acq_rel);
  if (newest == &sleep_mark) return;  // a handler runs in sleep()
  loop_op* oldest = nullptr;
  while (newest) {
    loop_op* const older = newest->next_;
    newest->next_ = oldest;
    oldest = newest;
    newest = older;
  }
  while (oldest) {
    loop_op* const next = oldest->next_;
    append(*oldest);
    oldest = next;
  }
}

bool loop::turn(const driver& until) noexcept {
  const turning_scope scope(*this, this_thread_state());
  return run_handlers(until);
}

bool loop::run_handlers(const driver& until) noexcept {
  while (!is_of_parent_process()) {
    if (run_queued([&] { return until.should_leave(); }) || until.should_leave()) return false;
    const std::size_t handled = poll_asio();
    if (handled != 0 || ready_ || has_arrivals()) continue;
    if (until.should_leave()) return false;
    if (!in_flight_.empty() && short_wait_([&] { return has_arrivals() || until.should_leave(); }))
      continue;
    if (!sleep(until)) return true;
  }
  return false;
}

void loop::offer_here(crossing& call) noexcept { offers_.push_back(call); }

bool loop::gives_its_cpu() const noexcept {
  const loop_op* const arrived = arrivals_.load(std::memory_order_relaxed);
  return !ready_ && (!arrived || arrived == &sleep_mark) && !short_wait_.is_due();
}

void loop::withdraw_offer(crossing& call) noexcept {
  work& item = call;
  if (item.lane_hook_.is_linked()) offers_.erase(offers_.iterator_to(item));
}

// The owner gives the loop away, and looks at its lane only.
void loop::publish_offers() noexcept {
  while (!offers_.empty()) {
    work& item = offers_.front();
    offers_.pop_front();
    static_cast<crossing&>(item).offer_to_helper();
  }
}

work* loop::take_offer() noexcept {
  while (!offers_.empty()) {
    work& item = offers_.front();
    offers_.pop_front();
    if (!item.try_claim()) continue;
    intrusive_ptr_add_ref(&item);
    return &item;
  }
  return nullptr;
}

std::size_t loop::poll_asio() noexcept {
  constexpr std::size_t batch = 16;
  std::size_t handled = 0;
  while (handled < batch && !is_of_parent_process()) {
    begins_step();
    try {
      if (io_->poll_one() == 0) break;
    } catch (...) {
      report_unhandled("a handler on a loop of async_to_sync");
    }
    ++handled;
  }
  if (is_of_parent_process()) return handled;
  // Somebody stopped the io_context behind our back; a call still depends on it.
  if (io_->stopped()) io_->restart();
  return handled;
}

// False: nothing has happened for a while, and this thread could be of use elsewhere.
bool loop::sleep(const driver& until) noexcept {
  // Calls that a busy pool gets through by itself are better left to it: giving the loop away costs
  // more than they do.
  constexpr std::chrono::milliseconds help_after{1};
  bool useful = false;
  trim_residents();
  rests();
  until.about_to_sleep(*this);
  loop_op* seen = nullptr;
  if (arrivals_.compare_exchange_strong(seen, &sleep_mark, std::memory_order_seq_cst)) {
    // Who wakes this thread by other means than a push does so first and then looks for the mark.
    if (!until.should_leave()) {
      try {
        if (until.could_help())
          useful = io_->run_one_for(help_after) == 0;
        else
          io_->run_one();
      } catch (...) {
        report_unhandled("a handler on a loop of async_to_sync");
      }
    }
    seen = &sleep_mark;
    arrivals_.compare_exchange_strong(seen, nullptr, std::memory_order_relaxed);
  }
  until.woke_up();
  return !(useful && until.could_help() && !has_arrivals());
}

void loop::close() noexcept {
  const ref_ptr<loop> self(this);
  while (!try_drive()) {
    ask_back();
    owner_.parking().park();
  }
  {
    const turning_scope scope(*this, this_thread_state());
    // From here on nothing is queued any more: what still comes is destroyed where it is.
    loop_op* left = arrivals_.exchange(&closed_mark, std::memory_order_acq_rel);
    while (loop_op* const op = next_ready()) op->take_turn(false);
    while (left) {
      loop_op* const next = left->next_;
      left->take_turn(false);
      left = next;
    }
    while (resident* const idle = take_idle_resident()) idle->retire();
    while (!in_flight_.empty()) {
      suspension& op = in_flight_.front();
      const ref_ptr<const ref_counted> kept(&op.counted());
      in_flight_.pop_front();
      op.orphaned();
    }
    work_.reset();
  }
  while (leftovers_) take_leftovers();
  owner_.forget_loops();
  {
    const std::lock_guard lock(wake_mutex_);
    closed_ = true;
  }
  io_.reset();
}

turning_scope::turning_scope(loop& driven, thread_state& thread) noexcept
    : running_(&driven.memory_),
      thread_(thread),
      driven_(driven),
      outer_(std::exchange(thread_.driving, &driven)),
      outer_node_(std::exchange(thread_.node, nullptr)),
      outer_values_(std::exchange(thread_.values, nullptr)),
      outer_blocking_(std::exchange(thread_.blocking, nullptr)) {
  driven_.turned_by_.store(&thread_, std::memory_order_release);
  if (debug_mode()) watched_.emplace(driven_);
}

turning_scope::~turning_scope() {
  watched_.reset();
  driven_.rests();
  driven_.turned_by_.store(nullptr, std::memory_order_release);
  thread_.driving = outer_;
  thread_.node = outer_node_;
  thread_.values = outer_values_;
  thread_.blocking = outer_blocking_;
}

}  // namespace bothworlds::detail
