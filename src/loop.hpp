// SPDX-License-Identifier: BSL-1.0
//
// A loop of ours: an io_context that one thread at a time drives, with a completion queue of its
// own in front.
//
// Who drives it is in role_. The owner is the thread the loop was made for; when that thread has to
// run blocking code it offers the loop to a helper thread and takes it back afterwards, so that the
// loop's other coroutines never stall behind that code:
//
//     nobody <-> owner -> offered -> helper <-> asked_back -> nobody
//                  ^--------|
//
// What is marked "driver" below is touched by the thread in the role of owner or helper only; role_
// passes it on (release when it is given away, acquire when it is taken).
#pragma once

#include "chain.hpp"
#include "loop_watch.hpp"
#include "process_mark.hpp"
#include "short_wait.hpp"
#include "thread_state.hpp"

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/loop_op.hpp>
#include <bothworlds/detail/suspension.hpp>
#include <bothworlds/detail/work.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/intrusive/list.hpp>

#include <atomic>
#include <mutex>
#include <optional>

namespace bothworlds::detail {

class async_call;
class crossing;
class resident;
class spawned;
struct thread_state;

/// What tells a driver to stop driving.
class driver {
public:
  virtual bool should_leave() const noexcept = 0;
  /// Whether this thread could do something else, once the loop has been idle for a while.
  virtual bool could_help() const noexcept { return false; }
  /// Around a sleep inside the loop.
  virtual void about_to_sleep(loop&) const noexcept {}
  virtual void woke_up() const noexcept {}

protected:
  ~driver() = default;
};

class loop final : public ref_counted {
public:
  explicit loop(lane& owner);

  /// For the thread that owns it.
  const lane& owner() const noexcept { return owner_; }
  asio::io_context& context() noexcept { return *io_; }
  bool is_of_parent_process() const noexcept { return process_.is_of_parent(); }

  // --- any thread

  /// Queues `op`, which the driver then runs, and wakes the driver if it sleeps. False: the loop is
  /// closed, `op` was not touched. `ended`: what has nothing else to do on this thread.
  bool push(loop_op& op, const work* ended = nullptr) noexcept;
  /// Makes a driver that sleeps look again.
  void wake() noexcept;
  /// Runs `function` with `node` installed: now, if `may_run_now` and this thread drives the loop,
  /// else later. On a closed loop the function is destroyed.
  void execute(const chain_node& node, continuation&& function, bool may_run_now);

  // --- the owner

  /// Takes the loop, unless a helper has it.
  bool try_drive() noexcept;
  /// Gives the loop to a helper, as soon as one comes.
  void offer() noexcept;
  /// Takes back a request to give it back. False: no helper drives it (any more).
  bool keep_helper() noexcept;
  /// Leaves it undriven.
  void release() noexcept;
  /// Asks the helper to give it back; the owner is woken when it has.
  void ask_back() noexcept;
  /// Fails and destroys everything that is left on the loop. Waits for a helper that drives it.
  void close() noexcept;

  // --- the driver

  /// Whether the calling thread is the driver, inside turn().
  bool turns_here() const noexcept;
  /// Runs handlers until `until` says so, or one of them has forked and this is the child. True: it
  /// has been idle for a while, and this thread could help elsewhere.
  bool turn(const driver& until) noexcept;
  /// The same, inside a turning_scope of the caller's.
  bool run_handlers(const driver& until) noexcept;
  /// Inside such a scope, too: runs what stands in the queue, up to a certain number, until `leave()`
  /// says so. True: it has, or this is a forked child.
  template <class Leave>
  bool run_queued(Leave&& leave) noexcept {
    constexpr int most = 64;  // then Asio gets its turn, so that neither starves the other
    for (int count = 0; count < most; ++count) {
      if (is_of_parent_process()) return true;
      loop_op* const op = next_ready();
      if (!op) break;
      begins_step();
      op->take_turn(true);
      if (leave()) return true;
    }
    return is_of_parent_process();
  }
  /// Starts `call` on a resident coroutine; takes the coroutine's reference. `thread` is the calling
  /// one.
  void start(async_call& call, thread_state& thread) noexcept;
  void track(suspension& op) noexcept {
    in_flight_.push_back(op);
    op.node_->awaits(op);
  }
  void untrack(suspension& op) noexcept {
    if (!op.in_flight_hook_.is_linked()) return;
    in_flight_.erase(in_flight_.iterator_to(op));
    op.node_->has_awaited(op);
  }
  /// Whether the calling thread, the driver, is that of `thread`, and owns this loop.
  bool is_driven_by(const lane& thread) const noexcept {
    return &thread == &owner_ && role_.load(std::memory_order_relaxed) == role::owner;
  }
  /// As far as can be seen, this thread sleeps once the step that runs now is over, and leaves its CPU to
  /// somebody else.
  bool gives_its_cpu() const noexcept;
  /// Calls of this loop that stand in a pool's queue, and which its owner may run when it has
  /// nothing better to do. They are taken back before they are destroyed.
  void offer_here(crossing& call) noexcept;
  void withdraw_offer(crossing& call) noexcept;
  bool has_offers() const noexcept { return !offers_.empty(); }
  /// The next of them, claimed, for serve(); null: none.
  work* take_offer() noexcept;
  /// The calls that they belong to have ended.
  void forget_offers() noexcept { offers_.clear(); }
  /// Reports what calls that have ended have left behind.
  void tell_leftovers() noexcept;
  /// It has ended; in debug mode.
  void keep_leftovers_of(spawned& ended) noexcept;
  void keep_resident(resident& idle) noexcept;
  /// The latest idle resident could not let go of its place: something holds its node, it may be
  /// what resumed it.
  void place_is_kept() noexcept { place_kept_ = true; }
  /// After a coroutine was resumed, and all that was held for that is free.
  void resumption_over() noexcept {
    if (place_kept_) [[unlikely]]
      forget_kept_place();
  }

  /// Whose handlers are on its stack, for the wait-for graph; null: nobody's.
  const thread_state* turned_by() const noexcept {
    return turned_by_.load(std::memory_order_acquire);
  }
  /// The number of the step the driver is in, or was in before it rested: see is_within_step().
  std::uint64_t step() const noexcept { return step_.load(std::memory_order_relaxed); }
  static bool is_within_step(std::uint64_t step) noexcept { return step % 2 != 0; }

private:
  friend class turning_scope;
  enum class role : unsigned char { nobody, owner, offered, helper, asked_back };
  using suspensions = boost::intrusive::list<
      suspension,
      boost::intrusive::member_hook<suspension, boost::intrusive::list_member_hook<>,
                                    &suspension::in_flight_hook_>,
      boost::intrusive::constant_time_size<false>>;

  using offers =
      boost::intrusive::list<work,
                             boost::intrusive::member_hook<work, work::hook, &work::lane_hook_>,
                             boost::intrusive::constant_time_size<false>>;

  ~loop() override;
  void publish_offers() noexcept;
  bool push_here(loop_op& op) noexcept;
  bool push_and_wake(loop_op& op, const work* ended) noexcept;
  bool refuse_push() const noexcept;
  void wake_driver() noexcept;
  void append(loop_op& op) noexcept {
    op.next_ = nullptr;
    *std::exchange(ready_end_, &op.next_) = &op;
  }
  void take_arrivals() noexcept;
  loop_op* next_ready() noexcept {
    // Also where some are left, or those that a handler pushes would keep out all others.
    if (has_arrivals()) take_arrivals();
    loop_op* const op = ready_;
    if (!op) return nullptr;
    ready_ = op->next_;
    if (!ready_) ready_end_ = &ready_;
    return op;
  }
  /// While the driver is awake.
  bool has_arrivals() const noexcept {
    return arrivals_.load(std::memory_order_relaxed) != nullptr;
  }
  void begins_step() noexcept { step_.store((step() | 1) + 2, std::memory_order_relaxed); }
  void rests() noexcept { step_.store((step() | 1) + 1, std::memory_order_relaxed); }
  std::size_t poll_asio() noexcept;
  bool sleep(const driver& until) noexcept;
  bool help_out() noexcept;
  bool is_asked_back() const noexcept {
    return role_.load(std::memory_order_seq_cst) == role::asked_back;
  }
  resident* take_idle_resident() noexcept;
  resident& acquire_resident();
  void trim_residents() noexcept;
  ref_ptr<spawned> take_leftovers() noexcept;
  void forget_finished_leftovers() noexcept;
  void forget_kept_place() noexcept;

  // Apart from each other, for the lines of memory that threads take from each other: what counts its
  // owners, and is before this; what the driver uses; and, at the end, what others push to.
  alignas(std::max_align_t) std::byte wake_storage_[128];  // of a wake-up in Asio's queue
  const process_mark process_;
  lane& owner_;  // outlives every use: the owner closes the loop before its lane goes
  std::optional<asio::io_context> io_;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_;
  std::atomic<role> role_{role::nobody};
  std::atomic<const thread_state*> turned_by_{nullptr};  // the driver writes
  std::atomic<std::uint64_t> step_{0};                   // the driver writes
  loop_op* ready_ = nullptr;       // driver: what it pushed, and took from arrivals_; oldest first
  loop_op** ready_end_ = &ready_;  // driver: the link after the newest
  loop_memory memory_;             // driver
  short_wait short_wait_;          // driver: for calls that are about to come back
  suspensions in_flight_;          // driver: coroutines of this loop wait in them
  offers offers_;                  // driver
  resident* idle_resident_ =
      nullptr;                      // driver: the latest, linked to those before it; own themselves
  std::size_t idle_residents_ = 0;  // driver
  bool place_kept_ = false;         // driver
  loop_op* leftovers_ = nullptr;    // driver: of spawned coroutines, each of which this owns
  std::size_t leftovers_count_ = 0;  // driver: and so many at which it looks which have ended
  std::size_t leftovers_limit_ = 16;
  std::atomic<bool> helper_comes_{false};  // the owner sets, the helper clears; seq_cst
  class help;
  ref_ptr<help> help_;  // the owner; null: none was needed yet
  std::mutex wake_mutex_;                 // held while somebody posts a wake-up
  bool closed_ = false;                   // wake_mutex_
  std::atomic<bool> wake_posted_{false};  // a wake-up is in Asio's queue: wake_storage_ is taken
  // Any thread pushes, newest first; the driver takes all. It leaves a mark there before it sleeps
  // in Asio: who finds that has to wake it.
  std::atomic<loop_op*> arrivals_{nullptr};
  // So many tasks at once cost no new coroutine, and that much an idle loop holds on to: one or two
  // kilobytes each, with the frames that its node recycles.
  static constexpr std::size_t most_idle_residents = 1024;
};

/// While it lives, this thread runs handlers of `driven`, whose driver it is.
class turning_scope {
public:
  /// `thread` is the calling one.
  turning_scope(loop& driven, thread_state& thread) noexcept;
  ~turning_scope();
  turning_scope(const turning_scope&) = delete;
  turning_scope& operator=(const turning_scope&) = delete;

private:
  running_loop_scope running_;
  thread_state& thread_;
  loop& driven_;
  loop* const outer_;
  const chain_node* const outer_node_;
  value_cell* const outer_values_;
  class may_block_scope* const
      outer_blocking_;                   // of the blocking code below: handlers are not part of it
  std::optional<watched_turn> watched_;  // in debug mode
};

}  // namespace bothworlds::detail
