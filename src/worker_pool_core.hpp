// SPDX-License-Identifier: BSL-1.0
//
// The machinery of a worker pool: a queue, the workers, and who of them is idle.
//
// mutex_ guards everything but the counters that say so; it is never held over a callable, a hook
// or the start of a thread. Workers that find nothing stand in idle_, the latest on top, each on
// its own parker. A submit wakes at most one of them, and none while another one is on its way:
// where there is work and somebody idle, somebody searches, or looks out, or returns, as below; and
// who has found an item wakes the next if there is more. A worker that is blocked in a bridge does
// not count against the soft limit: one more thread may be started in its place, up to the hard
// limit. When it goes on it waits for nobody; the surplus leaves when it next looks for work.
//
// One of the workers that find nothing waits awake for a while, with slot_ open: who submits then
// hands it the item there, and does not touch mutex_. It opens the slot with mutex_ held, and whoever
// looks for work closes a filled one likewise, so with mutex_ held a slot that is not open stays so.
// What is found there is queued in front, before anything is taken from the queue: there is one way to
// take an item. While the slot is open the queue is empty.
//
// A wake costs more than many a call. Where calls have been short, one of those that are idle is on the
// lookout: nobody wakes the idle then, while others are at work. It wakes by itself every now and then,
// and joins in where the others do not cope, be it that their callables take longer, or block. Items are
// taken in their order, so each waits for a few of its looks at the most. A worker that blocks in a
// bridge sees to the queue itself.
//
// Which of the idle is woken is a matter of CPUs: one that was last on the waker's own where that is
// about to be free, one that was elsewhere where the waker goes on. It is a choice among those that are
// idle, and ties nobody: where threads run, the kernel decides. Where there is none near, the idle may
// all be on one CPU, because each was woken there when that was free: the worker that comes wakes
// another one of them then, while it keeps that CPU busy, so that the kernel moves it.
//
// A worker whose call has ended is returning_ while it wakes the loop that waits for that: it looks for
// work right afterwards. Where threads share a CPU, that loop takes it over in the midst of this, hands
// out its next call, and sleeps: nobody is woken for that, as the worker will find it. In all other
// respects it is as busy as before: nothing is queued because of it that would have had a new worker.
//
// Who is to be woken is chosen with mutex_ held, and woken once that has been let go, or it would run
// into it. So whoever was taken out of idle_ or resting_ waits for that one wake, also if its time was
// over at the same moment, and no wake may be left over from before.
//
// A surplus worker that leaves takes its thread along to resting_ for idle_timeout: nested calls
// come again and again, and a thread costs more than they do. Resting, it is no worker: not in all_,
// not in threads_, relied upon by nobody. Where one more worker is wanted, one that rests becomes it
// in the very step that counts it; a thread is started only where nobody rests. So
// threads_ + resting_ + ending_ never exceeds the hard limit.
#pragma once

#include "adaptive_mutex.hpp"
#include "parker.hpp"
#include "pool_lock.hpp"
#include "process_mark.hpp"
#include "short_wait.hpp"
#include "work_slot.hpp"

#include <bothworlds/detail/work.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/execution_context.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/thread/thread.hpp>

#include <condition_variable>
#include <limits>
#include <list>
#include <mutex>
#include <vector>

namespace bothworlds {
class error;
}

namespace bothworlds::detail {

class loop;

/// Which of the idle workers had better come for an item: the latest of all; of those that were last on
/// the CPU of who wakes it; or of those that were not.
enum class nearness : unsigned char { any, here, elsewhere };

/// By `item`, which has done all but wake who waits for it, and may be gone: where that is what a worker
/// took from its pool's queue, that worker looks there next.
void is_done_but_for_a_wake(const work* item) noexcept;

/// What a worker runs. Lives on its stack meanwhile.
struct running_call {
  explicit running_call(const work& item, running_call* outer = nullptr) noexcept;

  const char* const name;
  const std::source_location where;
  const std::int64_t since;
  running_call* const below;  // null: none
};

/// One thread of a pool. Lives on that thread's stack.
class pool_worker {
public:
  explicit pool_worker(worker_pool_core& pool) noexcept : pool_(pool) {}
  worker_pool_core& pool() const noexcept { return pool_; }
  /// On this worker's own thread, in a callable that is blocked: runs `item`, which the caller has
  /// claimed, on top of it; takes the caller's reference.
  void run_on_top(work* item) noexcept;
  /// On this worker's own thread: it is about to block, or goes on. Nested blocks count once.
  void blocks() noexcept;
  void resumes() noexcept;
  /// On this worker's own thread: see is_done_but_for_a_wake().
  void returns_from(const work* item) noexcept;
  /// Any thread, while the worker exists.
  void interrupt() { handle_->interrupt(); }

private:
  friend class stall_finder;
  friend class wait_graph;
  friend class worker_pool_core;

  worker_pool_core& pool_;
  unsigned blocks_ = 0;                             // the worker's thread
  const work* served_ = nullptr;                    // likewise; what it took from the queue; may be gone
  bool searching_ = false;                          // mutex_; counted in the pool's searching_
  bool returning_ = false;                          // mutex_; counted in the pool's returning_
  bool is_far_ = false;                             // mutex_; woken for want of one near the waker
  int cpu_ = -1;                                    // mutex_; where it was when it last went to sleep
  boost::intrusive::list_member_hook<> idle_hook_;  // mutex_; in idle_ or in resting_
  boost::intrusive::list_member_hook<> all_hook_;   // mutex_
  parker parker_;
  boost::thread* handle_ = nullptr;             // constant; of this very thread
  int kernel_id_ = 0;                           // constant once the worker stands in all_
  const struct thread_state* state_ = nullptr;  // likewise; of its thread
  running_call* running_ = nullptr;             // mutex_; the innermost; null: it is not busy
};

class worker_pool_core final : public ref_counted {
public:
  enum class admission { queued, caller_runs };

  explicit worker_pool_core(worker_pool_options options);

  /// Queues `item`. caller_runs: the queue is full, the policy says so, and `caller_can_run` it;
  /// nothing was queued. Throws what keeps it from ever being run (pool_closed, queue_full,
  /// forked_child, a thread that cannot be started while there is none); then nothing was queued.
  /// `saturated` becomes true when no worker was free to take it. `turning`: the loop, in a step of
  /// which the calling thread is; null: unknown.
  admission submit(work& item, bool caller_can_run, bool* saturated = nullptr,
                   const loop* turning = nullptr);
  /// Throws what submit would throw for a pool that takes no more calls.
  void check_open(std::source_location where) const;
  /// Takes an item out of the queue if it still stands there.
  void remove(work& item) noexcept;
  /// True if one more worker may be started now.
  bool may_add_worker() const noexcept;
  /// Whether a call that is submitted now finds a worker, without one being added for another that
  /// is blocked; or hears that the pool is shut down.
  bool has_free_worker() const noexcept;

  /// Looked at without the lock: it takes no more calls.
  bool is_closed() const noexcept { return closed_.load(std::memory_order_relaxed); }

  bool is_of_parent_process() const noexcept { return process_.is_of_parent(); }

  void note_abandoned() noexcept { abandoned_.fetch_add(1, std::memory_order_relaxed); }

  worker_pool_stats stats() const;
  /// What the workers run now, the longest first.
  std::vector<leftover> running() const;
  std::vector<leftover> shutdown(const std::chrono::steady_clock::time_point* deadline);
  const worker_pool_options& options() const noexcept { return options_; }
  asio::execution_context& context() noexcept { return context_; }

private:
  friend class pool_worker;
  friend class stall_finder;
  friend class wait_graph;
  using work_queue =
      boost::intrusive::list<work,
                             boost::intrusive::member_hook<work, work::hook, &work::pool_hook_>>;
  using worker_hook = boost::intrusive::list_member_hook<>;
  using idle_stack =
      boost::intrusive::list<pool_worker, boost::intrusive::member_hook<pool_worker, worker_hook,
                                                                        &pool_worker::idle_hook_>>;
  using worker_list =
      boost::intrusive::list<pool_worker, boost::intrusive::member_hook<pool_worker, worker_hook,
                                                                        &pool_worker::all_hook_>>;

  ~worker_pool_core() override;

  /// The library's own threads: every item gets one at once, or is refused.
  bool is_unlimited() const noexcept {
    return options_.soft_limit == std::numeric_limits<unsigned>::max();
  }

  /// Items may wait a moment although somebody is free: it does not count against a limit of the queue,
  /// and none was promised a thread at once.
  bool lets_wait() const noexcept { return options_.queue_limit == no_limit && !is_unlimited(); }

  // With mutex_ held.
  /// Who comes for what is queued, or will if it is woken.
  std::size_t free_workers() const noexcept {
    return searching_ + idle_.size() - (slot_.is_filled() ? 1 : 0);
  }
  bool may_grow() const noexcept;
  bool is_surplus() const noexcept { return threads_ - blocked_ > options_.soft_limit; }
  bool wants_worker() const noexcept;
  bool has_threads() const noexcept { return threads_ + ending_ + resting_.size() != 0; }
  std::vector<leftover> list_running() const;
  /// The same, and what is queued.
  std::vector<leftover> list_unfinished() const;
  /// Queues what was handed over, in front, and lets nobody hand over more.
  void close_slot() noexcept;
  /// The same, but a slot that is still open stays so.
  void queue_handed() noexcept {
    if (slot_.is_filled()) close_slot();
  }
  /// One that was last on the CPU of the calling thread, or one that was not; null: none.
  pool_worker* find_idle(bool here) noexcept;
  void wake(pool_worker& chosen, pool_lock& lock) noexcept;
  bool wake_idle_worker(pool_lock& lock, nearness whom) noexcept;
  /// Wakes one that was last on this CPU, which the calling worker is going to keep busy: the kernel then
  /// takes it elsewhere, it may be to where somebody was looked for in vain.
  void spread_idle(pool_lock& lock) noexcept;
  bool is_unattended() const noexcept {
    return searching_ == 0 && !queue_.empty() && !is_looked_after();
  }
  /// Wakes one that is idle, where somebody has to look for what is queued and nobody does.
  void see_to_queue(pool_lock& lock) noexcept {
    if (is_unattended()) wake_idle_worker(lock, nearness::elsewhere);
  }
  /// The same, after `turning`, whose driver calls this, has queued something; null: somebody of whom
  /// nothing is known.
  void see_to_submitted(pool_lock& lock, const loop* turning) noexcept;
  void stop_searching(pool_worker& self, pool_lock& lock) noexcept;
  /// Workers that are neither idle nor blocked.
  std::size_t at_work() const noexcept {
    const std::size_t others = blocked_ + idle_.size();
    return threads_ > others ? threads_ - others : 0;
  }
  /// While others are at work one that is idle looks whether they cope.
  bool is_looked_after() const noexcept { return lookout_ && at_work() != 0; }
  bool begin_lookout() noexcept;
  bool goes_on_looking_out(std::uint64_t taken, parker::clock::duration meanwhile) noexcept;
  /// One more worker counts from now on, for add_counted_worker(). Null: a thread has to be started
  /// for it; else the one that comes has rested.
  pool_worker* count_worker() noexcept;
  pool_worker& take_resting() noexcept;
  /// Takes back what was counted for a thread that could not be started.
  void uncount_worker() noexcept;

  // Without mutex_; those that are given its lock hold it, and let it go meanwhile.
  void worker_blocks() noexcept;
  void start_worker();
  void add_counted_worker(pool_worker* rested) noexcept;
  void work_loop(std::list<boost::thread>::iterator handle) noexcept;
  work* next(pool_worker& self, pool_lock& lock);
  bool rest(pool_worker& self, pool_lock& lock);
  bool wait_for_work(pool_worker& self, pool_lock& lock);
  /// Each is true where it is to look again.
  bool wait_awake(pool_worker& self, pool_lock& lock) noexcept;
  bool wait_asleep(pool_worker& self, pool_lock& lock) noexcept;
  static void await_wake(pool_worker& self, pool_lock& lock) noexcept;
  void no_thread_for(work& item, std::exception_ptr why);
  static error closed_error(std::source_location where);
  void refuse_queue(pool_lock& lock, std::exception_ptr why) noexcept;
  void refuse_hopeless(pool_lock& lock, std::exception_ptr why) noexcept;
  void join_finished(pool_lock& lock) noexcept;

  const worker_pool_options options_;
  const process_mark process_;
  std::atomic<bool> closed_{
      false};  // mutex_ to write, for good; far from it, for those who only look
  asio::execution_context context_;
  std::mutex starting_mutex_;  // a thread's handle is stored before the thread goes on
  std::condition_variable_any all_left_;
  // Far from mutex_, or who waits awake would take its line away from who queues. called_: something
  // was queued while somebody gathers, who reads this; any thread writes, after mutex_ was let go.
  static constexpr work_slot::key anybody = 2;  // for whom slot_ is open
  work_slot slot_;
  std::atomic<bool> called_{false};
  idle_stack resting_;  // workers that have left and may come back
  worker_list all_;
  std::list<boost::thread> handles_;   // of all_ and resting_, and of those that end
  std::list<boost::thread> finished_;  // left since closed_: to be joined by shutdown()
  unsigned names_ = 0;                 // how many were ever named
  std::uint64_t compensations_ = 0;
  std::atomic<std::uint64_t> abandoned_{0};  // any thread

  // What every call goes through stands together: between two CPUs it travels line by line. (Not
  // aligned to a line: where a constructor throws, g++ 12 forgets memory that was allocated with an
  // alignment.)
  mutable adaptive_mutex mutex_;
  bool spinning_ = false;  // one of those that search is in short_wait_, its slot open, or gathers
  work_queue queue_;
  idle_stack idle_;
  std::size_t threads_ = 0;    // workers: those that have not left, with those on their way
  std::size_t ending_ = 0;     // threads that have rested in vain, until they have ended
  std::size_t blocked_ = 0;    // of threads_, blocked in a bridge
  std::size_t searching_ = 0;  // of them, spinning or woken: about to look at the queue
  std::size_t returning_ = 0;  // about to look, too, once they have woken who waits for their call
  bool lookout_ = false;       // one of those that are idle is on the lookout
  std::uint64_t taken_ = 0;    // out of the queue, by workers
  std::uint64_t completed_ = 0;
  learned_habit looks_out_;    // mutex_
  short_wait short_wait_;      // whoever has set spinning_
  short_gather short_gather_;  // likewise
};

const ref_ptr<worker_pool_core>& core_of(const worker_pool& pool) noexcept;
/// That of the default pool, which is never destroyed.
worker_pool_core& default_pool_core();

/// A coarse, cheap clock in nanoseconds, for ages in reports.
std::int64_t coarse_now() noexcept;
std::chrono::milliseconds age(std::int64_t since, std::int64_t now) noexcept;

}  // namespace bothworlds::detail
