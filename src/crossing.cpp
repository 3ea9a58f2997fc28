// SPDX-License-Identifier: BSL-1.0
#include "aborted.hpp"
#include "chain.hpp"
#include "context_values.hpp"
#include "exception_from.hpp"
#include "foreign_context.hpp"
#include "hand_over.hpp"
#include "interruption.hpp"
#include "lane.hpp"
#include "limiter_core.hpp"
#include "loop.hpp"
#include "names.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"
#include "watch.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/detail/crossing.hpp>
#include <bothworlds/error.hpp>

#include <boost/asio/error.hpp>
#include <boost/thread/exceptions.hpp>

namespace bothworlds::detail {

/// Of a call with rare options, or one that can be interrupted: most take no room for it.
struct crossing::rare_parts : recycled {
  explicit rare_parts(ref_ptr<const call_extras> options) noexcept : extras(std::move(options)) {}

  const ref_ptr<const call_extras> extras;  // null: none
  ref_ptr<limiter_token>
      token;  // set by prepare(), its own; dispatch() may take one of a call above instead
  std::unique_ptr<detail::interruption>
      interruption;  // set by prepare(), then constant; only with cancel_policy::interrupt
};

namespace {

/// What is handed to a user's executor. Runs the crossing once; fails it where the executor drops
/// it.
class executor_job {
public:
  explicit executor_job(crossing& call) noexcept : call_(&call) {}
  executor_job(executor_job&&) noexcept = default;
  ~executor_job() {
    if (call_ && !hand_over::fails(call_.get())) drop(std::move(call_));
  }
  static void drop(ref_ptr<crossing> call) noexcept {
    if (!call->try_claim()) return;
    const std::source_location where = call->where();
    call.detach()->refuse(exception_from([&] {
      return error(errc::pool_closed, where, "the executor dropped the callable without running it",
                   "  fix  let the executor's context run until its callables have returned\n");
    }));
  }
  void operator()() {
    if (const ref_ptr<crossing> call = std::move(call_); call->try_claim())
      serve(ref_ptr<crossing>(call).detach());
  }

private:
  ref_ptr<crossing> call_;
};

}  // namespace

call_extras::call_extras() = default;
call_extras::~call_extras() = default;

call_options::call_options(const sync_options& options, std::source_location from,
                           ref_ptr<call_target> target)
    : pool(options.pool),
      where(from),
      on_cancel(options.on_cancel),
      thread_sensitive(options.thread_sensitive) {
  const auto refuse = [&](const char* what, const char* fix) {
    throw misuse_error(errc::invalid_options, from,
                       std::string(target ? "thread_bound: " : "sync_to_async: ") + what, fix);
  };
  if (target && (options.executor || options.pool || options.thread_sensitive))
    refuse("the options name a thread",
           "  fix  a thread_bound has a thread of its own: leave out pool, executor and "
           "thread_sensitive\n");
  if (options.executor && !*options.executor)
    refuse("the executor is empty",
           "  fix  give it an executor, or leave sync_options::executor null\n");
  if (options.executor && options.thread_sensitive)
    refuse("both an executor and thread_sensitive",
           "  fix  thread-sensitive calls choose their own thread: leave one of the two out\n");
  if (options.executor && options.pool)
    refuse("both an executor and a pool", "  fix  leave one of the two out\n");
  if (options.pool && options.thread_sensitive)
    refuse("both a pool and thread_sensitive",
           "  fix  thread-sensitive calls choose their own thread: leave one of the two out\n");
  if (!options.executor && !options.interruptor && !options.limiter && !options.name && !target)
    return;
  ref_ptr<call_extras> rare(new call_extras);
  if (options.executor)
    rare->executor = asio::require(*options.executor, asio::execution::blocking.never);
  if (options.interruptor) rare->interruptor = *options.interruptor;
  if (options.limiter) rare->limiter = core_of(*options.limiter);
  if (options.name) rare->name = interned(options.name);
  rare->target = std::move(target);
  extras = std::move(rare);
}

void refuse_empty_callable(const char* bridge, std::source_location where) {
  throw misuse_error(errc::invalid_options, where, std::string(bridge) + ": the callable is empty",
                     "  why  a null function pointer, member pointer or std::function was given\n"
                     "  fix  give it a target before it is called\n");
}

crossing::crossing(const call_options& options)
    : work(options.where),
      thread_sensitive_(options.thread_sensitive),
      pool_(options.pool ? core_of(*options.pool).get() : nullptr),
      rare_(options.extras || options.on_cancel == cancel_policy::interrupt
                ? std::make_unique<rare_parts>(options.extras)
                : nullptr),
      on_cancel_(options.on_cancel) {}

crossing::~crossing() {
  if (keeps_pool_) intrusive_ptr_release(pool_);
  if (awaiting_node() || awaiting_foreign() || !debug_mode()) return;
  if (phase_.load(std::memory_order_relaxed) != phase::pending) return;  // it has arrived
  report_misuse(where(), "a call of sync_to_async was made and never awaited: it has not run",
                "  fix  co_await what the call returns\n");
}

work::~work() = default;
blocked_call::~blocked_call() = default;
ref_counted::~ref_counted() = default;

const call_extras* crossing::extras() const noexcept {
  return rare_ ? rare_->extras.get() : nullptr;
}

const limiter_token* crossing::token() const noexcept {
  return rare_ ? rare_->token.get() : nullptr;
}

interruption* crossing::interruptible() const noexcept {
  return rare_ ? rare_->interruption.get() : nullptr;
}

const char* crossing::name() const noexcept { return extras() ? extras()->name : nullptr; }

void crossing::prepare(asio::any_io_executor&& awaiting) {
  prepare_resumption(std::move(awaiting), where());
  if (on_cancel_ == cancel_policy::interrupt)
    rare_->interruption = std::make_unique<interruption>();
  if (const call_extras* const rare = extras()) {
    if (rare->limiter) rare_->token = new limiter_token(rare->limiter, *this, chain_token());
    if (rare->target) return rare->target->check(where());
    if (rare->executor) return;
  }
  if (thread_sensitive_) return;
  if (pool_) {
    intrusive_ptr_add_ref(pool_);
    keeps_pool_ = true;
  } else {
    pool_ = &default_pool_core();
  }
  pool_->check_open(where());
}

void crossing::begin(asio::cancellation_slot slot) {
  values_.begin(awaiting_node() ? hand_on(awaiting_node()->values()) : current_snapshot());
  // Before it is published, so that no cancellation is lost.
  if (slot.is_connected())
    slot.assign(
        [self = ref_ptr<crossing>(this)](asio::cancellation_type type) { self->cancel(type); });
  dispatch();
}

void crossing::begin_failed() noexcept {
  if (try_claim()) ref_ptr<crossing>(this).detach()->refuse(std::current_exception());
}

lane& crossing::queue_lane() const noexcept {
  if (lane* const bound = target() ? target()->queues_in() : nullptr) return *bound;
  const chain_node* const node = awaiting_node().get();
  return node && node->place().sync_lane ? *node->place().sync_lane : process_lane();
}

lane& crossing::helper() const noexcept { return *awaiting_node()->place().blocked; }

void crossing::dispatch() {
  if (token()) {
    keeps_node();  // other threads may go on with this call, while it is cancelled here
    // Set before that, not after it is queued, as below.
    has_helper_ = pool_ && awaiting_node() && awaiting_node()->helper();
    queue_.store(queue::limiter, std::memory_order_release);
    if (!limiter_core::acquire(rare_->token, *this))
      return watch_waits();  // it waits for a token: grant() goes on
  }
  hand_over(true);
}

void crossing::grant(ref_ptr<crossing> next) noexcept {
  while (next) {
    const ref_ptr<crossing> call = std::move(next);
    std::exception_ptr why;  // goes with the call: this thread is to keep no hold of it
    try {
      call->hand_over(false);
    } catch (...) {
      why = std::current_exception();
    }
    // Claimed: it was cancelled meanwhile, and who did that passes the token on.
    if (!why || !call->try_claim()) return;
    call->fails(std::move(why));
    call->discard();
    next = ref_ptr<crossing>(call).detach()->finish();
  }
}

void crossing::hand_over(bool on_the_loop) {
  const chain_node* const node = awaiting_node().get();
  if (call_target* const elsewhere = target()) {
    queue_.store(elsewhere->queues_in() ? queue::lane : queue::none, std::memory_order_release);
    return elsewhere->submit(*this, node);
  }
  if (extras() && extras()->executor) {
    queue_.store(queue::executor, std::memory_order_release);
    const ref_ptr<crossing> self(this);
    detail::hand_over current(this);
    extras()->executor.execute(executor_job(*this));
    if (current.failed) executor_job::drop(self);
    return;
  }
  queue_.store(thread_sensitive_ ? queue::lane : queue::pool, std::memory_order_release);
  if (thread_sensitive_) {
    if (node) return node->submit_sensitive(*this);
    return process_lane().push_main(*this);
  }
  if (on_the_loop && hand_to_caller()) return;
  const loop* const turning = on_the_loop ? awaiting_loop() : nullptr;
  bool saturated = false;
  if (pool_->submit(*this, on_the_loop, &saturated, turning) ==
      worker_pool_core::admission::caller_runs) {
    if (try_claim()) {
      runs_on_loop_ = true;
      ref_ptr<crossing>(this).detach()->run();
    }
    return;
  }
  if (saturated && node) offer(*node, on_the_loop);
}

// To the thread that is blocked in the call whose coroutine awaits this, where it is a worker of
// the pool itself, or no worker is free: that coroutine waits for nothing else, so the thread could
// only wait, too, until this has returned. Not to the chain's sync thread, for which other
// coroutines may have work.
bool crossing::hand_to_caller() {
  const chain_node* const node = awaiting_node().get();
  if (!node || !awaiting_loop() || on_cancel_ != cancel_policy::wait) return false;
  // Open: that of a call that has ended may be as old as another one that has the same address.
  const chain_place& place = node->place();
  if (!node->is_open() || !place.call || place.blocks_sync_lane ||
      !place.blocked->has_open_slot(place.call))
    return false;
  if (node->sole_wait() != this) return false;
  if (place.blocked->is_as_good_as_any(pool_) ? pool_->is_closed() : pool_->has_free_worker())
    return false;  // submit() refuses it, or finds that worker
  queue_.store(queue::none, std::memory_order_release);  // in none that it could wait in for long
  if (place.blocked->put_into_slot(*this, place.call)) return true;
  queue_.store(queue::pool, std::memory_order_release);
  return false;
}

// To the thread that is blocked above. If that is the one which drives this loop, here and now, it
// looks for offers itself when the loop has been idle for a while: nobody has to be told.
void crossing::offer(const chain_node& node, bool on_the_loop) {
  lane* const helper = node.helper();
  if (!helper) return;
  loop* const own = on_the_loop ? awaiting_loop() : nullptr;
  if (own && own->is_driven_by(*helper)) {
    offered_here_ = true;
    return own->offer_here(*this);
  }
  if (!token()) has_helper_ = true;
  if (has_helper_) helper->push_offer(*this, node.place().epoch);
}

void crossing::offer_to_helper() noexcept {
  offered_here_ = false;
  has_helper_ = true;
  helper().push_offer(*this, awaiting_node()->place().epoch);
}

void crossing::run() noexcept {
  {
    const process_mark process;
    thread_state& thread = this_thread_state();
    const void* const loop = innermost_running_loop();
    std::optional<may_block_scope> scope;
    if (!runs_on_loop_) scope.emplace(this, thread, loop);
    const cell_scope values(&values_, thread, loop);
    interruption* const by_cancellation = interruptible();
    bool interrupted = false;
    if (by_cancellation) {
      ++thread.interruptible;
      by_cancellation->begin();
    }
    try {
      invoke();
    } catch (const boost::thread_interrupted&) {
      interrupted = true;
      fails(std::current_exception());
    } catch (...) {
      fails(std::current_exception());
    }
    // Who awaits it is in the parent: what is further down on this stack sees that.
    if (process.is_of_parent()) return;
    if (by_cancellation) {
      --thread.interruptible;
      by_cancellation->end();
      if (interrupted && by_cancellation->fired()) fails(operation_aborted());
    }
    discard();
  }
  complete();
}

void crossing::refuse(std::exception_ptr why) noexcept {
  fails(std::move(why));
  discard();
  complete();
}

// Consumes the reference of whoever ran it, or of whoever decided that it will not run.
void crossing::complete() noexcept { grant(finish()); }

// Also consumes that reference. Returns the call that got this one's token, for grant().
ref_ptr<crossing> crossing::finish() noexcept {
  // Before the result is on its way: who gets it finds the token given back.
  ref_ptr<crossing> next = give_token_back();
  phase expected = phase::pending;
  if (phase_.compare_exchange_strong(expected, phase::completed, std::memory_order_acq_rel))
    deliver(next ? nullptr : this);
  else
    intrusive_ptr_release(this);  // abandoned: nobody awaits it
  return next;
}

ref_ptr<crossing> crossing::give_token_back() noexcept {
  return token() ? limiter_core::release(*rare_->token) : ref_ptr<crossing>();
}

call_target* crossing::target() const noexcept {
  return extras() ? extras()->target.get() : nullptr;
}

ref_ptr<limiter_token> crossing::chain_token() const noexcept {
  if (token()) return rare_->token;
  return awaiting_node() ? awaiting_node()->place().token : ref_ptr<limiter_token>();
}

void crossing::arrived(bool resumes) noexcept {
  // A copy of it may still stand in a queue, as an offer or a cancelled call.
  if (offered_here_ && resumes) awaiting_loop()->withdraw_offer(*this);
  if (has_helper_ || withdrawn_ || offered_here_) withdraw();
  // An abandoned callable may still be running.
  if (resumes && awaiting_node() && !abandoned_)
    awaiting_node()->values().take_changes(std::move(values_));
}

void crossing::orphaned() noexcept {
  const ref_ptr<crossing> self(this);
  if (offered_here_) awaiting_loop()->withdraw_offer(*this);
  phase expected = phase::pending;
  phase_.compare_exchange_strong(expected, phase::detached, std::memory_order_acq_rel);
  if (try_claim()) {
    withdraw();
    discard();
    grant(give_token_back());
  } else if (expected == phase::pending) {
    request_stop();
    cancel_inner(asio::cancellation_type::terminal);
    note_abandoned();
  }
  drop_coroutine();
}

void crossing::withdraw() noexcept {
  if (call_target* const elsewhere = target()) elsewhere->withdraw(*this);
  if (pool_) pool_->remove(*this);
  if (has_helper_) helper().remove(*this);
  if (thread_sensitive_) queue_lane().remove(*this);
}

void crossing::cancel(asio::cancellation_type type) noexcept {
  if (phase_.load(std::memory_order_acquire) != phase::pending) return;
  const ref_ptr<crossing> self(this);
  if (try_claim()) {
    // It had not begun and never will.
    withdrawn_ = true;
    return ref_ptr<crossing>(this).detach()->refuse(operation_aborted());
  }
  // First, so that a callable which obeys at once cannot come before it.
  if (on_cancel_ == cancel_policy::abandon) abandon();
  request_stop();
  cancel_inner(type);
  if (interruption* const running = interruptible()) {
    static const std::function<void()> none;
    running->fire(extras() ? extras()->interruptor : none);
  }
}

void crossing::note_abandoned() noexcept {
  if (pool_) pool_->note_abandoned();
  if (call_target* const elsewhere = target()) elsewhere->note_abandoned();
}

void crossing::abandon() noexcept {
  phase expected = phase::pending;
  if (!phase_.compare_exchange_strong(expected, phase::detached, std::memory_order_acq_rel)) return;
  abandoned_ = true;
  keeps_node();
  note_abandoned();
  intrusive_ptr_add_ref(this);
  deliver();
}

void crossing::cancel_inner(asio::cancellation_type type) noexcept {
  ref_ptr<blocked_call> inner;
  {
    const std::lock_guard lock(inner_mutex_);
    if (!inner_)
      undelivered_ = static_cast<std::uint8_t>(undelivered_ | static_cast<unsigned>(type));
    inner = inner_;
  }
  if (inner) inner->request_cancel(type);
}

void crossing::attach(blocked_call& inner) noexcept {
  std::uint8_t missed;
  {
    const std::lock_guard lock(inner_mutex_);
    inner_ = &inner;
    missed = std::exchange(undelivered_, 0);
  }
  if (missed != 0) inner.request_cancel(static_cast<asio::cancellation_type>(missed));
}

void crossing::detach() noexcept {
  const std::lock_guard lock(inner_mutex_);
  inner_ = nullptr;
}

std::exception_ptr crossing::failure() { return abandoned_ ? operation_aborted() : take_failure(); }

}  // namespace bothworlds::detail
