// SPDX-License-Identifier: BSL-1.0
#include "resident.hpp"

#include "exception_from.hpp"
#include "loop.hpp"
#include "task_core.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"
#include "wait_for_memory.hpp"

#include <bothworlds/error.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/this_coro.hpp>

#include <new>

namespace bothworlds::detail {
namespace {

/// Brings a coroutine back that has hopped to another executor's thread and stayed there.
asio::awaitable<void> return_home() { co_await asio::dispatch(asio::deferred); }

// The completion of a coroutine that has reported everything already.
struct nothing_left_to_say {
  void operator()(std::exception_ptr) const noexcept {}
};

/// For once_suspended: the coroutine goes on at the end of what `call` has invoked.
struct awaiting_call {
  async_call* call;
  void operator()(coroutine_frame& frame) const { call->await_from(frame); }
};

/// A scope that owns its node.
class fresh_scope {
public:
  fresh_scope(ref_ptr<async_call> call, ref_ptr<call_node> node) noexcept
      : node_(std::move(node)), scope(*call.detach(), *node_) {}

private:
  ref_ptr<call_node> node_;

public:
  coroutine_scope scope;
};

asio::awaitable<void> run_once(fresh_scope own, asio::cancellation_signal& signal) {
  coroutine_scope& scope = own.scope;
  {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::optional<deadline_timer> deadline;
    if (deadline_timer::is_needed_for(scope.call())) deadline.emplace(scope.call(), executor);
    if (scope.begin(signal)) {
      try {
        co_await scope.call().run();
      } catch (...) {
        scope.failed();
      }
    }
    co_await asio::this_coro::throw_if_cancelled(false);
    while (const ref_ptr<task_scope> tasks = scope.tasks_to_wait_for()) {
      try {
        co_await tasks->left();
      } catch (const std::bad_alloc&) {
        scope.cannot_wait(*tasks);
      }
    }
    co_await return_home();
    scope.end_step();
  }
  scope.finish();
}

}  // namespace

void coroutine_scope::lost() noexcept {
  call_->drop_operation();
  if (!call_->failure())
    call_->fail(exception_from([this] {
      return error(errc::loop_stopped, call_->where(),
                   "the call's coroutine was destroyed before it ended",
                   "  why  its loop was destroyed, or had no memory to start it\n"
                   "  fix  let the loop live until the calls that run on it have returned\n");
    }));
  finish();
}

bool coroutine_scope::begin(asio::cancellation_signal& signal) noexcept {
  return call_->begin(node_, signal);
}

ref_ptr<task_scope> coroutine_scope::unfinished_tasks() noexcept {
  const ref_ptr<task_scope> tasks(node_.hosted_tasks());
  if (!std::exchange(waits_for_tasks_, true)) {
    // It failed, or was asked to end, whatever it made of that: its tasks are to end, too.
    if (call_->failure() || call_->was_cancelled_) tasks->cancel();
    tasks->release();
  }
  return tasks->is_left() ? nullptr : tasks;
}

void coroutine_scope::cannot_wait(task_scope& tasks) noexcept {
  failed();
  tasks.cancel();
  wait_for_memory();
}

void coroutine_scope::failed() noexcept { call_->fail(std::current_exception()); }

void coroutine_scope::finish() noexcept { release().finish(node_.leave()); }

resident::resident(ref_ptr<loop> home)
    : node_(new call_node(std::move(home), std::make_unique<loop_memory>())) {}

resident::~resident() = default;

void resident::launch() {
  intrusive_ptr_add_ref(this);  // the frame's
  bottom_promise& bottom = create<&resident::operation_ended, &resident::gone>();
  idle_.emplace(thread_on(bottom, chain_executor(node_), signal_.slot()));
  idle_owners_ = node_->owners();
}

bool resident::forget_place() noexcept {
  const chain_place& place = node_->place();
  if (place.is_bare_root() || (!place.blocked && !place.hangs())) return true;
  if (!reusable()) return false;
  node_->forget_place();
  return true;
}

void resident::run(async_call& call, thread_state& thread) {
  if (call.waiter_outlives_)
    node_->enter_root(*call.waiter_, call.hand_values_on(), call.hosts_tasks_);
  else
    // Who has given up may be gone, with all that is above: what is not begun has no place.
    node_->enter(call.claim(async_call::start::begun) ? call.take_place() : chain_place(),
                 call.hand_values_on(), std::move(call.tasks_), call.hosts_tasks_);
  last_call_ = call.where();
  told_ = false;
  scope_.emplace(call, *node_);
  const node_scope scope(node_.get(), thread);
  coroutine_thread goes_on(std::move(*idle_));
  idle_.reset();
  promise().attach_thread(&goes_on);
  resume_with<&resident::operation_ended>();
  if (begin(goes_on) || end_operation()) goes_on.launch();
}

// True: what the call awaits is on top of the stack.
bool resident::begin(coroutine_thread& on) noexcept {
  try {
    on.reset_cancellation_state();
    async_call& call = scope_->call();
    // Not on the node: a cancelled wait that still stands in the loop's queue is no work that the
    // call left behind.
    if (deadline_timer::is_needed_for(call))
      deadline_.emplace(call, node_->own_loop()->context().get_executor());
    if (!scope_->begin(signal_)) return false;
    on.throw_if_cancelled(true);
    call.invoke();
    call.await_from(promise());
    return true;
  } catch (...) {
    scope_->failed();
    return false;
  }
}

void resident::operation_ended() noexcept {
  try {
    scope_->call().store();
  } catch (...) {
    scope_->failed();
  }
  end_operation();
}

void resident::tell_leftovers() noexcept {
  if (told_ || node_->unfinished() == 0) return;
  told_ = true;
  report_misuse(last_call_, "a call has ended and left work behind on its loop",
                "  why  a coroutine of a bare asio::co_spawn, or an operation, has not ended; it "
                "goes on when\n"
                "       this thread drives its loop again, if it does\n"
                "  fix  wait for it, or make it a task: with_task_group or create_task\n");
}

// True: something that has to come first is on top of the stack. False: the call has ended.
bool resident::end_operation() noexcept {
  const ref_ptr<task_scope> tasks = scope_->tasks_to_wait_for();
  if (!tasks && node_->own_loop()->turns_here()) {
    end_call();
    return false;
  }
  await_settlement();
  return true;
}

void resident::await_settlement() noexcept {
  with_memory([this] { rest_.emplace(settle()); });
  resume_with<&resident::settled>();
  rest_->await_suspend(as_awaiting(promise()));
}

// The call's tasks end, and the coroutine comes back to its loop.
asio::awaitable<void> resident::settle() {
  co_await asio::this_coro::throw_if_cancelled(false);
  while (const ref_ptr<task_scope> tasks = scope_->tasks_to_wait_for()) {
    try {
      co_await tasks->left();
    } catch (const std::bad_alloc&) {
      scope_->cannot_wait(*tasks);
    }
  }
  while (!node_->own_loop()->turns_here()) {
    try {
      co_await return_home();
    } catch (const std::bad_alloc&) {
      wait_for_memory();
    }
  }
}

void resident::settled() noexcept {
  try {
    rest_->await_resume();
  } catch (...) {
    scope_->failed();
  }
  rest_.reset();
  end_call();
}

void resident::end_call() noexcept {
  scope_->end_step();
  deadline_.reset();
  async_call& call = scope_->release();
  scope_.reset();
  // Idle, and among those that are, before the caller wakes and asks for one.
  idle_.emplace(promise().suspend());
  node_->own_loop()->keep_resident(*this);
  // Whoever that tells goes on by way of a queue: no call comes from in there.
  call.finish(node_->leave());
  if (!forget_place()) node_->own_loop()->place_is_kept();
}

void resident::retire() noexcept {
  coroutine_thread last(std::move(*idle_));
  idle_.reset();
  resume_with<&resident::retired>();
  last.launch();
}

void resident::retired() noexcept { promise().ends(); }

// If it was running a call, that ends with it: see ~coroutine_scope().
void resident::gone() noexcept {
  rest_.reset();
  deadline_.reset();
  scope_.reset();
  intrusive_ptr_release(this);
}

asio::awaitable<void> async_call::run() {
  invoke();
  co_await once_suspended{awaiting_call{this}};
  store();
}

void run_on_fresh_coroutine(ref_ptr<async_call> call, ref_ptr<call_node> node,
                            asio::cancellation_signal& signal) {
  const chain_executor executor(node);
  asio::co_spawn(executor, run_once(fresh_scope(std::move(call), std::move(node)), signal),
                 asio::bind_cancellation_slot(signal.slot(), nothing_left_to_say{}));
}

}  // namespace bothworlds::detail
