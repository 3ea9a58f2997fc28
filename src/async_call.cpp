// SPDX-License-Identifier: BSL-1.0
#include "aborted.hpp"
#include "blocked_thread.hpp"
#include "chain.hpp"
#include "context_values.hpp"
#include "describe.hpp"
#include "exception_from.hpp"
#include "foreign_context.hpp"
#include "hand_over.hpp"
#include "lane.hpp"
#include "loop.hpp"
#include "names.hpp"
#include "resident.hpp"
#include "serial_executor.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"
#include "wait_for_memory.hpp"

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/crossing.hpp>
#include <bothworlds/error.hpp>

#include <boost/asio/error.hpp>

namespace bothworlds::detail {

const char* name_of(const async_options& options) {
  return options.name ? interned(options.name) : nullptr;
}

void check_may_block(const char* what, std::source_location where, const char* name) {
  const void* const running = innermost_running_loop();
  if (!running) return;
  const may_block_scope* const scope = this_thread_state().blocking;
  if (scope && scope->loop_marker() == running) return;
  throw misuse_error(errc::running_loop, where,
                     std::string(what) + " was called on a thread that is running a loop",
                     (name ? "  name " + std::string(name) + "\n" : std::string()) +
                         "  why  it would block the loop, and with it the coroutine it waits for\n"
                         "  fix  in a coroutine: co_await the async function itself; in blocking "
                         "code that a coroutine needs:\n"
                         "       call that code through sync_to_async; on a thread of an "
                         "asio::thread_pool that may block:\n"
                         "       put a bothworlds::blocking_region around the call\n");
}

async_call::async_call(std::source_location where) noexcept
    : start_op_(*this), where_(where), cancel_op_(*this) {}

async_call::~async_call() {
  if (!awaited_ && debug_mode())
    report_misuse(where_, "something was made here that nobody has awaited: it has not run",
                  "  fix  co_await what this call returns\n");
}

void async_call::block(const async_options& options, loop* elsewhere) {
  thread_state& thread = this_thread_state();
  if (!thread.own_lane) thread.own_lane = new lane(lane::kind::of_a_thread);
  if (options.timeout != no_timeout)
    patience_ = deadline_ = std::chrono::steady_clock::now() + options.timeout;
  name_ = options.name;
  may_be_stopped_ = options.stop.stop_possible();
  crossing* const caller = thread.blocking ? thread.blocking->call() : nullptr;
  waiter_ = thread.own_lane.get();
  waiter_outlives_ = !caller && !elsewhere;
  if (!waiter_outlives_) kept_waiter_ = thread.own_lane;
  caller_ = caller;
  awaited_ = hosts_tasks_ = true;
  value_cell* const values = current_cell(thread);
  if (values) values_.begin(hand_on(*values));
  if (elsewhere)
    block_on(*elsewhere, thread, options, caller);
  else if (caller && !options.force_new_loop)
    block_on_loop_of(*caller, thread, options);
  else
    block_on_own_loop(thread, options, caller);
  if (!has_ended()) return;  // given up, it may still be running
  if (values) take_back(*values, std::move(values_));
  if (!waiter_outlives_) intrusive_ptr_release(this);  // the coroutine's; the caller has one, too
}

void async_call::set_loop(ref_ptr<loop> target) noexcept {
  loop_ = target.get();
  kept_loop_ = std::move(target);
}

// Mostly by the driver of the very loop that the nodes above belong to: if the blocked thread counted
// itself among their owners, it would take the memory in which they are counted from that loop.
chain_place async_call::take_place() noexcept {
  // A coroutine that made the call may have ended by now, but its place stays: this holds it.
  ref_ptr<chain_node> above = std::move(made_by_);
  if (caller_) above = caller_->awaiting_node();
  chain_place place;
  if (above) place = chain_place::below(std::move(above));
  if (waiter_) place.is_blocked_by(*waiter_, !caller_, this);
  if (caller_) place.token = caller_->chain_token();
  return place;
}

/// While it lives, work of the chain may run on the blocked thread, cancellations of the caller and
/// of the stop token reach the call, and none is lost: all of it is in place before the call is
/// published.
class async_call::blocking_scope {
public:
  blocking_scope(async_call& call, crossing* caller, const std::stop_token& stop)
      : call_(call), caller_(caller) {
    call.waiter_->open_frame();
    if (caller) caller->attach(call);
    if (stop.stop_possible()) stop_.emplace(stop, canceller{call});
  }
  // At the end of every blocking call: g++ takes it for too long, used three times.
  [[gnu::always_inline]] ~blocking_scope() {
    stop_.reset();
    if (process_.is_of_parent()) [[unlikely]]
      return;
    if (caller_) caller_->detach();
    call_.waiter_->close_frame();
  }
  blocking_scope(const blocking_scope&) = delete;
  blocking_scope& operator=(const blocking_scope&) = delete;

private:
  struct canceller {
    async_call& call;
    void operator()() const noexcept { call.request_cancel(asio::cancellation_type::terminal); }
  };

  async_call& call_;
  crossing* const caller_;
  const process_mark process_;
  std::optional<std::stop_callback<canceller>> stop_;
};

void async_call::block_on_own_loop(thread_state& thread, const async_options& options,
                                   crossing* caller) {
  // The loop kept for this thread, unless calls of this thread are on it already, further down the
  // stack.
  struct loop_use {
    unsigned* frames = nullptr;
    ref_ptr<loop> made;
    const process_mark process;
    ~loop_use() {
      if (process.is_of_parent()) return;  // the child has begun afresh
      if (frames) --*frames;
      if (made) made->close();
    }
  } use;
  if (thread.home_frames != 0) {
    use.made = new loop(*thread.own_lane);
    loop_ = use.made.get();
  } else {
    if (!thread.home) thread.home = new loop(*thread.own_lane);
    loop_ = thread.home.get();
    use.frames = &thread.home_frames;
    ++*use.frames;
  }
  if (!waiter_outlives_) kept_loop_ = loop_;
  loop& mine = *loop_;
  mine.try_drive();  // nobody else can have it: the last root call has taken it back
  const blocking_scope scope(*this, caller, options.stop);
  if (waiter_outlives_)
    start_.store(start::begun, std::memory_order_relaxed);  // nobody else has seen it
  else
    intrusive_ptr_add_ref(this);
  // The first step and those that follow are one turn of the loop.
  std::optional<turning_scope> turning(std::in_place, mine, thread);
  mine.start(*this, thread);
  if (pending() && !thread.worker) {
    // Mostly the queue gives what it waits for.
    mine.run_queued([&] { return !pending() || waiter_->has_nested(); });
    if (pending() || mine.is_of_parent_process()) return wait(thread, &mine, &turning);
  }
  turning.reset();
  if (pending()) return wait(thread, &mine, &turning);  // its pool hears first that it is blocked
  leave(mine);
}

void async_call::leave(loop& home) noexcept {
  home.forget_offers();
  if (debug_mode()) home.tell_leftovers();
  home.release();
}

void async_call::block_on(loop& target, thread_state& thread, const async_options& options,
                          crossing* caller) {
  // A portal has set it already, and may be using it to cancel this call.
  if (!loop_) set_loop(ref_ptr<loop>(&target));
  const blocking_scope scope(*this, caller, options.stop);
  intrusive_ptr_add_ref(this);
  loop* const owned = &target.owner() == waiter_ ? &target : nullptr;
  // Before it begins: its coroutine may get to offload something sooner than this thread to wait,
  // and another worker would have to come for that.
  if (!owned) blocked_thread::open_slot(thread, *waiter_, this);
  if (!target.push(start_op_)) started(false);
  wait(thread, owned);
}

void async_call::block_on_loop_of(crossing& caller, thread_state& thread,
                                  const async_options& options) {
  if (loop* own = caller.awaiting_loop()) return block_on(*own, thread, options, &caller);
  const foreign_awaiter& awaiter = *caller.awaiting_foreign();
  const auto refuse = [&] {
    throw error(
        errc::loop_stopped, where_,
        "the loop that awaits this callable has been stopped or destroyed",
        "  at   " + describe(caller.where()) +
            ", the sync_to_async that runs this callable\n"
            "  fix  let the loop run until its callables have returned, or set force_new_loop\n");
  };
  if (awaiter.context()->stopped()) refuse();
  const chain_node* const above = caller.awaiting_node().get();
  const auto make_node = [&] {
    node_ = new foreign_node(awaiter.context(),
                             above ? above->inner() : serialised(awaiter.executor()));
  };
  if (!awaiter.context()->with_context(make_node)) refuse();
  const blocking_scope scope(*this, &caller, options.stop);
  node_->enter(take_place(), hand_values_on(), nullptr, hosts_tasks_);
  if (!awaiter.context()->with_context([&] { start_on(node_); })) refuse();
  wait(thread, nullptr);
}

/// Starts a fresh coroutine from the executor's own thread.
struct coroutine_access {
  ref_ptr<async_call> call;
  ref_ptr<call_node> node;

  coroutine_access(ref_ptr<async_call> what, ref_ptr<call_node> where) noexcept
      : call(std::move(what)), node(std::move(where)) {}
  coroutine_access(coroutine_access&&) noexcept = default;
  ~coroutine_access() {
    if (call && !hand_over::fails(call.get())) drop(std::move(call), std::move(node));
  }
  /// It was never started: the executor is gone.
  static void drop(ref_ptr<async_call> call, ref_ptr<call_node> node) noexcept {
    const coroutine_scope ended(*call.detach(), *node);
  }
  void operator()() {
    async_call& started = *call;
    try {
      run_on_fresh_coroutine(std::move(call), std::move(node), started.own_signal_);
    } catch (...) {
      // The scope that was on its way into the coroutine has reported it as a stopped loop.
    }
  }
};

// Where this throws, the call has not ended, and nothing of it has been called.
void async_call::start_on(const ref_ptr<call_node>& node) {
  const ref_ptr<async_call> self(this);
  hand_over current(this);
  node->execute(continuation(coroutine_access(self, node)), false);
  if (current.failed) coroutine_access::drop(self, node);
}

void async_call::give_up(std::exception_ptr reason) noexcept {
  if (changes_outcome(outcome::pending, outcome::given_up)) gave_up_because_ = std::move(reason);
}

bool async_call::refuse(std::exception_ptr why) noexcept {
  refusal_ = std::move(why);
  if (!claim(start::refused)) return false;
  const ref_ptr<lane> waiter = kept_waiter_;  // it can be refused, so it has this
  while (!changes_outcome(outcome::slept_on, outcome::given_up) &&
         !changes_outcome(outcome::pending, outcome::given_up))
    if (!pending()) return true;
  if (waiter)
    waiter->wake();
  else
    then_();
  return true;
}

error async_call::timeout_error() const {
  return error(errc::timed_out, where_, "the call did not end within its timeout",
               "  what  its coroutine was cancelled and has unwound\n");
}

bool async_call::begin(const chain_node& on, asio::cancellation_signal& signal) noexcept {
  if (start_.load(std::memory_order_relaxed) != start::begun && !claim(start::begun)) {
    // Who waits has given it up, and may not have said so yet: either way this is the outcome. If it
    // was refused, who waits has the error already.
    if (start_.load(std::memory_order_acquire) == start::late)
      failure_ = exception_from([this] { return timeout_error(); });
    return false;
  }
  runs_on_.store(&on, std::memory_order_release);
  if (cancel_types_.load(std::memory_order_acquire) != 0) {
    failure_ = operation_aborted();
    return false;
  }
  signal_ = &signal;
  return true;
}

void async_call::finish(value_cell&& values) noexcept {
  const bool owned = !waiter_outlives_;
  signal_ = nullptr;
  values_.take(std::move(values));
  if (waiter_) {
    if (tell_waiter()) return;  // it has the reference now
  } else if (changes_outcome(outcome::pending, outcome::done) &&
             !(loop_ && loop_->is_of_parent_process())) {
    then_();
  }
  if (owned) intrusive_ptr_release(this);
}

// False: it has given the call up. Otherwise the blocked thread may be gone when this returns, and
// everything of this call with it.
bool async_call::tell_waiter() noexcept {
  if (this_thread_state().own_lane.get() == waiter_ || (loop_ && loop_->is_of_parent_process())) {
    // This very thread waits: there is nobody to wake, and who refuses a call that was never begun
    // may just as well find that it has ended. Or, in a forked child, the thread that waits has this
    // on its stack, or is not in this process.
    if (!pending()) return false;
    outcome_.store(outcome::done, std::memory_order_release);
    return true;
  }
  // In one step where it is awake: no other memory is both its and ours. Where it sleeps in a loop, it
  // drives that, and nobody else ends a call there: only park() has to say that it sleeps.
  while (!changes_outcome(outcome::pending, outcome::done)) {
    if (!pending()) return false;
    const ref_ptr<lane> waiter(waiter_);
    if (!changes_outcome(outcome::slept_on, outcome::done)) continue;
    waiter->wake();
    break;
  }
  return true;
}

void async_call::time_is_over() {
  if (!signal_) return;  // it has ended
  timed_out_ = true;
  cancel_types_.fetch_or(static_cast<unsigned>(asio::cancellation_type::terminal));
  emit();
}

void async_call::cut() noexcept {
  cut_.store(true, std::memory_order_relaxed);
  request_cancel(asio::cancellation_type::terminal);
}

void async_call::emit() {
  if (!signal_) return;
  const unsigned types = cancel_types_.exchange(0, std::memory_order_acq_rel);
  if (types == 0) return;
  was_cancelled_ = true;
  const auto type = static_cast<asio::cancellation_type>(types);
  // What handles it is code of the call. On a fresh coroutine co_spawn sees to that.
  if (!loop_) return signal_->emit(type);
  const chain_node& node = *runs_on_.load(std::memory_order_relaxed);
  loop_->execute(node, continuation([signal = signal_, type] { signal->emit(type); }), true);
}

void async_call::request_cancel(asio::cancellation_type type) noexcept {
  cancel_types_.fetch_or(static_cast<unsigned>(type), std::memory_order_acq_rel);
  if (cancel_queued_.exchange(true, std::memory_order_acq_rel)) return;
  if (loop_) {
    intrusive_ptr_add_ref(this);
    if (!loop_->push(cancel_op_)) intrusive_ptr_release(this);
    return;
  }
  if (!node_) return;  // not published yet: begin() sees it
  const auto post = [this] {
    node_->execute(continuation([call = ref_ptr<async_call>(this)] {
                     call->cancel_queued_.exchange(false, std::memory_order_acq_rel);
                     call->emit();
                   }),
                   false);
  };
  with_memory([&] {
    if (node_->own_loop())
      post();
    else
      node_->foreign()->with_context(post);
  });
}

void async_call::cancelled(bool deliver) noexcept {
  const ref_ptr<async_call> self(this, false);
  // An exchange, so that who still found it set has added its types before they are taken.
  cancel_queued_.exchange(false, std::memory_order_acq_rel);
  if (deliver) emit();
}

void async_call::started(bool deliver) noexcept {
  if (deliver) return loop_->start(*this, this_thread_state());  // with the coroutine's reference
  fail(exception_from([&] {
    return error(errc::loop_stopped, where_, "the loop that was to run this call has ended",
                 "  fix  let the thread of that loop wait for its callables; stop a portal after "
                 "its last call\n");
  }));
  finish(value_cell());
}

void async_call::rethrow_failure() {
  // Moved out, so that the exception goes with the one who catches it, not with a call that
  // somebody else still holds.
  if (gave_up_because_) std::rethrow_exception(std::move(gave_up_because_));
  if (start_.load(std::memory_order_acquire) == start::refused && refusal_)
    std::rethrow_exception(std::move(refusal_));
  if (!failure_) return;
  const bool cut = cut_.load(std::memory_order_relaxed);
  if (timed_out_ || cut) {
    try {
      std::rethrow_exception(std::move(failure_));
    } catch (const boost::system::system_error& failure) {
      if (failure.code() != asio::error::operation_aborted) throw;
    }
    if (timed_out_) throw timeout_error();
    throw error(errc::loop_stopped, where_, "the call was cancelled because its loop is to stop",
                "  fix  stop a portal after its last call, or with stop_policy::wait\n");
  }
  std::rethrow_exception(std::move(failure_));
}

}  // namespace bothworlds::detail
