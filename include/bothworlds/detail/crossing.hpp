// SPDX-License-Identifier: BSL-1.0
//
// One call of sync_to_async, without its types.
//
// Life: made and prepared on the awaiting loop, queued, claimed by one thread, run, completed by
// pushing itself to the loop that awaits it, resumed there. Who owns what:
//   - until suspended() returns, everything belongs to the awaiting loop's thread;
//   - from then on the callable and the result belong to whoever claimed the work, up to
//     complete();
//   - phase_ decides between completion, cancellation and abandonment: each is one
//     compare-exchange.
// Every thread that works on a crossing owns a reference; completion hands that reference to the
// loop, so the completing thread touches nothing of it afterwards.
#pragma once

#include <bothworlds/detail/blocked_call.hpp>
#include <bothworlds/detail/spin_mutex.hpp>
#include <bothworlds/detail/suspension.hpp>
#include <bothworlds/detail/value_cell.hpp>
#include <bothworlds/detail/work.hpp>
#include <bothworlds/sync_options.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <source_location>

namespace bothworlds::detail {

class crossing;
class interruption;
class lane;
class limiter_core;
class limiter_token;

/// Where a call runs, if it is none of the places that sync_options can name.
class BOTHWORLDS_API call_target : public ref_counted {
public:
  /// Throws what keeps any call from being run there. On the awaiting loop.
  virtual void check(std::source_location where) const = 0;
  /// Queues the call, whose coroutine has this node; null: none. Any thread. Throws what keeps it
  /// from being run; then nothing was queued.
  virtual void submit(crossing& call, const chain_node* awaiting) = 0;
  /// Takes it out of the queue, if it still stands there.
  virtual void withdraw(crossing& call) noexcept = 0;
  virtual void note_abandoned() noexcept {}
  /// The lane in which its calls stand; null: none. For the wait-for graph.
  virtual lane* queues_in() const noexcept { return nullptr; }

protected:
  ~call_target() override;
};

/// Options that are rarely set, copied once by the wrap and shared by its calls; immutable.
struct BOTHWORLDS_API call_extras : ref_counted {
  call_extras();
  ~call_extras() override;

  asio::any_io_executor executor;
  std::function<void()> interruptor;
  ref_ptr<limiter_core> limiter;
  ref_ptr<call_target> target;
  const char* name = nullptr;  // interned
};

/// sync_options, owned: what its pointers named has been copied.
struct BOTHWORLDS_API call_options {
  call_options(const sync_options& options, std::source_location where,
               ref_ptr<call_target> target = nullptr);

  worker_pool* pool;
  std::source_location where;
  ref_ptr<const call_extras> extras;  // null: none of the rare options
  cancel_policy on_cancel;
  bool thread_sensitive;
};

/// Throws misuse_error, invalid_options: the callable handed to `bridge` at `where` is empty.
[[noreturn]] BOTHWORLDS_API void refuse_empty_callable(const char* bridge,
                                                       std::source_location where);

class BOTHWORLDS_API crossing : public work, public suspension {
public:
  /// Finds out where the awaiting coroutine runs and where the callable is to run. On the awaiting
  /// thread, before anything has been published. Throws error (pool_closed, forked_child, …) and
  /// std::bad_alloc.
  void prepare(asio::any_io_executor&& awaiting);

  /// Cancellation of the awaiting operation; on the awaiting loop, while it waits or later.
  void cancel(asio::cancellation_type type) noexcept;

  void run() noexcept final;
  void refuse(std::exception_ptr why) noexcept final;
  const char* name() const noexcept final;

  /// An offer that stood among those of its loop goes to the lane of that loop's owner. On the loop.
  void offer_to_helper() noexcept;

  /// Null, or what the await is to throw. On the awaiting loop, after completion.
  std::exception_ptr failure();
  /// The innermost limiter token of the chain below this call. On the callable's thread, or on that
  /// of a call in which the callable is blocked.
  ref_ptr<limiter_token> chain_token() const noexcept;

  /// Goes on with a call that has waited for its limiter's token and now holds it; with the next
  /// one, where that call fails. Any thread. Null: nothing to do.
  static void grant(ref_ptr<crossing> next) noexcept;

  /// While the callable is blocked in `inner`, cancellations go there. A cancellation that came
  /// before any call could take it is handed to the first one: none is lost. On the callable's
  /// thread.
  void attach(blocked_call& inner) noexcept;
  void detach() noexcept;

protected:
  /// Which one of the two the typed part holds.
  enum class outcome : unsigned char { none, result, failure };

  crossing(const call_options& options);
  ~crossing() override;

  /// Calls the callable and stores its result. What it throws becomes the failure.
  virtual void invoke() = 0;
  /// Where there is no result.
  virtual void fails(std::exception_ptr why) noexcept = 0;
  /// Null: it has not failed.
  virtual std::exception_ptr take_failure() noexcept = 0;
  /// Destroys the callable and its arguments; called once, after invoke() or instead of it.
  virtual void discard() noexcept = 0;
  /// Asks a callable that takes a stop_token to stop; any thread.
  virtual void request_stop() noexcept {}

private:
  friend class wait_graph;

  enum class phase : unsigned char {
    pending,    // queued or running; the awaiting coroutine is suspended
    completed,  // the result is stored and on its way to the loop
    detached,   // nobody awaits the result any more
  };

  const ref_counted& counted() const noexcept override { return *this; }
  void begin(asio::cancellation_slot slot) override;
  void begin_failed() noexcept override;
  void arrived(bool resumes) noexcept override;
  void orphaned() noexcept override;
  /// Where it was put to wait for a thread; for the wait-for graph.
  enum class queue : unsigned char { none, limiter, pool, lane, executor };

  const crossing* as_crossing() const noexcept override { return this; }
  lane& queue_lane() const noexcept;
  /// The thread that is blocked above: what awaits this keeps its node, and a node its place.
  lane& helper() const noexcept;
  void dispatch();
  void hand_over(bool on_the_loop);
  void offer(const chain_node& node, bool on_the_loop);
  bool hand_to_caller();
  void complete() noexcept;
  ref_ptr<crossing> finish() noexcept;
  ref_ptr<crossing> give_token_back() noexcept;
  call_target* target() const noexcept;
  void withdraw() noexcept;
  void note_abandoned() noexcept;
  void abandon() noexcept;
  void cancel_inner(asio::cancellation_type type) noexcept;
  const call_extras* extras() const noexcept;    // null: none of the rare options
  const limiter_token* token() const noexcept;   // null: it needs none
  interruption* interruptible() const noexcept;  // null: it is not

  struct rare_parts;

  // What is small stands where there would be holes.
  bool withdrawn_ : 1 = false;     // the awaiting loop; the next three, too, in one byte
  bool offered_here_ : 1 = false;  // it stands among that loop's own offers
  bool abandoned_ : 1 = false;
  bool keeps_pool_ : 1 = false;  // prepare() has counted a reference to pool_
  const bool thread_sensitive_;
  bool has_helper_ = false;  // dispatch(), then constant: this may stand as an offer in helper()
  std::atomic<queue> queue_{queue::none};  // dispatch()
  blocked_call* inner_ = nullptr;  // inner_mutex_; kept alive by the thread that waits for it
  worker_pool_core* pool_;  // the user's, or set by prepare(); null after that: it runs elsewhere
  const std::unique_ptr<rare_parts> rare_;  // null: it has none of those
  // What follows, and the result and the callable, is what the thread that runs it changes.
  [[no_unique_address]] value_cell
      values_;  // the awaiting loop until it is queued; then with outcome_
  std::atomic<phase> phase_{phase::pending};
  bool runs_on_loop_ = false;  // set before it runs
  const cancel_policy on_cancel_;
  spin_mutex inner_mutex_;
  std::uint8_t undelivered_ = 0;  // inner_mutex_: types of cancellation

protected:
  outcome outcome_ = outcome::none;  // who runs it, then the awaiting loop
};

}  // namespace bothworlds::detail
