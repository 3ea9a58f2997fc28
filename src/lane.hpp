// SPDX-License-Identifier: BSL-1.0
//
// One thread at a time, in order: the queue of work that must, or may, run on one particular
// thread.
//
// There are three kinds. A *thread's* lane belongs to a thread that blocks in async_to_sync and is
// served while it is blocked, by the frames of that thread. A *dedicated* lane is a
// thread-sensitive context's: it takes a thread of its own when the first call comes, and gives it
// back when the context is left. A *bound* lane is a thread_bound's: its thread comes with the
// object, and no other one ever serves it.
//
// A thread that waits for one call has a slot besides (see open_slot): what that call's coroutine
// alone waits for may be put there, and runs on the thread that would only wait for it.
//
// Four queues:
//   - nested_: work of the chain that is blocked on this thread; served by its innermost frame,
//     whichever it is;
//   - main_, not of a thread's: work of chains that are not on this thread's stack; between two
//     calls only;
//   - offers_: work that also stands in a pool's queue, because the pool had no free worker;
//   - last_, bound only: what waits for the thread to leave.
//
// mutex_ guards the queues. frames_ counts the calls that block on this thread now, and how often
// the last of them has ended; it is written by that thread alone. A pusher counts itself into
// nested_count_ before it looks at frames_, a closing frame does it the other way round (all
// sequentially consistent), so no work is left in a queue that nobody will look at.
#pragma once

#include "parker.hpp"
#include "short_wait.hpp"
#include "work_slot.hpp"

#include <bothworlds/detail/work.hpp>

#include <boost/intrusive/list.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <source_location>
#include <string>
#include <utility>

namespace bothworlds::detail {

class async_call;
class loop;
class worker_pool_core;
struct thread_state;

struct lane_stats {
  std::size_t queued = 0;
  std::chrono::milliseconds oldest_queued{0};
  bool busy = false;
  std::string running;  // the name or place of what was taken last
  std::chrono::milliseconds running_for{0};
};

class lane final : public ref_counted {
public:
  enum class kind { of_a_thread, dedicated, bound };

  explicit lane(kind what) noexcept;

  // --- any thread

  /// Queues work of the chain whose frames are on this thread. False: no frame is open, nothing was
  /// queued.
  bool push_nested(work& item) noexcept;
  /// Not of a thread's: queues work for the thread's own turn. A dedicated lane starts its thread
  /// if there is none. Throws if that cannot be, or a bound lane is retired; then nothing was
  /// queued.
  void push_main(work& item);
  /// Bound lanes: the same. False: it is retired, nothing was queued.
  bool push_bound(work& item) noexcept;
  /// Bound lanes: queues what is to run when the thread leaves. False: it has left, nothing was
  /// queued.
  bool push_last(work& item) noexcept;
  /// Offers work that a pool has queued. False: the frames that could take it have gone.
  bool push_offer(work& item, std::uint32_t epoch) noexcept;
  /// Hands work to the thread, if it has opened its slot for `call`: it runs that next, whatever else
  /// comes. False: it has not, or somebody was faster; nothing has happened.
  bool put_into_slot(work& item, const async_call* call) noexcept;
  bool has_open_slot(const async_call* call) const noexcept {
    return (slot_.open_for() & ~slot_roomy) == slot_for(call);
  }
  /// Whether what is put there finds as good a place as on another worker of `pool`: this is one,
  /// too, and it has opened its slot as a roomy one.
  bool is_as_good_as_any(const worker_pool_core* pool) const noexcept {
    return pool_ && pool_ == pool && (slot_.open_for() & slot_roomy) != 0;
  }
  /// Takes the work out of whatever queue here it stands in.
  void remove(work& item) noexcept;
  /// Makes the thread look again at what it waits for.
  void wake() noexcept;
  bool dedicated() const noexcept { return kind_ != kind::of_a_thread; }
  /// Gives the thread back once the queues are empty. Never blocks.
  void retire() noexcept;
  lane_stats stats() const;
  /// What reports call it.
  const char* title() const noexcept;

  // --- the thread itself

  /// Runs what is queued, until the lane is retired and empty. Inside a lane_occupancy.
  void serve_queues() noexcept;
  /// The thread leaves, and runs what has waited for that. False: work has come, serve it first.
  bool vacate() noexcept;
  /// What stats() gives as running; null: nothing.
  void shows(const char* what, std::source_location where) noexcept;

  void open_frame() noexcept;
  /// Runs what came too late for every frame, when the last one closes.
  void close_frame() noexcept;
  std::uint32_t epoch() const noexcept { return epoch_in(frames_.load(std::memory_order_relaxed)); }
  bool has_nested() const noexcept { return nested_count_.load(std::memory_order_seq_cst) != 0; }
  bool has_offers() const noexcept { return offer_count_.load(std::memory_order_seq_cst) != 0; }
  /// The next piece of work, claimed, for serve(); null: none.
  work* take_nested() noexcept { return has_nested() ? take(place::nested) : nullptr; }
  work* take_offer() noexcept { return take(place::offers); }
  /// It is about to wait until `call` has ended, with nothing else to do. `roomy`: half of its
  /// stack is left, and no callable on it may be interrupted.
  void open_slot(const async_call* call, bool roomy) noexcept {
    slot_.open(slot_for(call) | (roomy ? slot_roomy : 0));
  }
  bool slot_is_closed() const noexcept { return slot_.is_closed(); }
  /// It has woken. Work, with a reference and not claimed: it is to run that before all else.
  work* close_slot() noexcept { return slot_.close(); }
  /// Waits a little where that has paid before; see short_wait.
  template <class Ready>
  bool wait_a_little(Ready&& ready) noexcept {
    return short_wait_(std::forward<Ready>(ready));
  }
  parker& parking() noexcept { return parker_; }
  /// The loop in whose epoll this thread sleeps, if it does: who wakes the thread must wake that
  /// loop.
  void sleeps_in(loop* where) noexcept { sleeping_in_.store(where, std::memory_order_seq_cst); }
  /// After this no wake() uses a loop that this thread has slept in before: it may be destroyed.
  void forget_loops() noexcept;

private:
  friend class lane_occupancy;
  friend class stall_finder;
  friend class wait_graph;
  using queue =
      boost::intrusive::list<work,
                             boost::intrusive::member_hook<work, work::hook, &work::lane_hook_>,
                             boost::intrusive::constant_time_size<false>>;

  enum class place : unsigned char { nested, main, offers, last };  // what work::lane_queue_ says

  static constexpr work_slot::key slot_roomy = 2;
  static work_slot::key slot_for(const async_call* call) noexcept {
    return reinterpret_cast<work_slot::key>(call);
  }
  static constexpr unsigned epoch_shift = 32;
  static std::uint32_t open_in(std::uint64_t frames) noexcept {
    return static_cast<std::uint32_t>(frames);
  }
  static std::uint32_t epoch_in(std::uint64_t frames) noexcept {
    return static_cast<std::uint32_t>(frames >> epoch_shift);
  }

  ~lane() override;
  queue& queue_at(place where) noexcept;
  void put(place where, work& item) noexcept;
  void unlink(work& item) noexcept;
  work* take(place from) noexcept;
  void forget_offers() noexcept;
  void give_back(work& item) noexcept;
  void serve_until_retired() noexcept;

  const kind kind_;
  const worker_pool_core* pool_ = nullptr;  // constant, to be compared only; null: no worker's
  // The thread writes; seq_cst, where the last frame closes. Open frames in the lower half, how
  // often the last one has closed in the upper.
  std::atomic<std::uint64_t> frames_{0};
  mutable std::mutex mutex_;
  queue nested_;               // mutex_
  queue main_;                 // mutex_
  queue offers_;               // mutex_
  queue last_;                 // mutex_
  std::size_t main_size_ = 0;  // mutex_
  bool running_;          // mutex_; not of a thread's: a thread serves this lane, or is about to
  bool retired_ = false;  // mutex_
  std::atomic<std::uint32_t> nested_count_{0};  // pushers and the thread; seq_cst
  std::atomic<std::uint32_t> offer_count_{0};   // mutex_ to write; anybody reads; seq_cst
  std::atomic<loop*> sleeping_in_{nullptr};  // the thread writes; seq_cst
  // For the wait-for graph.
  const thread_state* server_ = nullptr;  // mutex_: the thread that serves it now; null: none
  const char* running_name_ =
      nullptr;  // mutex_; this and the next two: the call that was taken last
  std::source_location running_where_;
  std::int64_t running_since_ = 0;  // 0: none of a dedicated lane's
  work_slot slot_;         // open for what a call waits for: its address, perhaps with slot_roomy
  short_wait short_wait_;  // the thread
  parker parker_;
};

/// While it lives, the calling thread is that of `served`: blocking calls on top of it open their
/// frames there, and a loop that they have to make belongs to it.
class lane_occupancy {
public:
  explicit lane_occupancy(lane& served);
  ~lane_occupancy();
  lane_occupancy(const lane_occupancy&) = delete;
  lane_occupancy& operator=(const lane_occupancy&) = delete;

private:
  lane& served_;
  thread_state& thread_;
  const ref_ptr<lane> previous_;
  const ref_ptr<loop> previous_home_;
};

/// The lane of thread-sensitive calls under an async root, outside every context: one for the
/// process.
lane& process_lane();
/// Null: it has not been made yet.
lane* find_process_lane() noexcept;

/// Runs `item`, which the caller has claimed, on this thread; takes the caller's reference.
void serve(work* item) noexcept;

}  // namespace bothworlds::detail
