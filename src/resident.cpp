// SPDX-License-Identifier: BSL-1.0
#include "resident.hpp"

#include "exception_from.hpp"
#include "loop.hpp"
#include "task_core.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"

#include <bothworlds/error.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <chrono>
#include <new>
#include <thread>

namespace bothworlds::detail {
namespace {

/// Cancels the call when its time is over; gone when the call's coroutine is.
///
/// A cancelled wait stays in the loop's queue until somebody drives the loop again. So it does not
/// own the call, but a link to it, which is cut when the timer goes. All of it is used on the
/// call's executor only.
class deadline_timer {
public:
  /// Executor() gives what the timer runs on.
  template <class Executor>
  deadline_timer(async_call& call, const Executor& executor) {
    if (call.deadline() != std::chrono::steady_clock::time_point::max()) set(call, executor());
  }
  ~deadline_timer() {
    if (link_) link_->call = nullptr;
  }
  deadline_timer(const deadline_timer&) = delete;
  deadline_timer& operator=(const deadline_timer&) = delete;

private:
  struct link : ref_counted {
    explicit link(async_call& to) noexcept : call(&to) {}
    async_call* call;  // null: the call has ended
  };

  void set(async_call& call, const asio::any_io_executor& executor) {
    timer_.emplace(executor, call.deadline());
    link_ = make_counted<link>(call);
    timer_->async_wait([to = link_](boost::system::error_code failure) {
      if (!failure && to->call) to->call->time_is_over();
    });
  }

  std::optional<asio::steady_timer> timer_;
  ref_ptr<link> link_;
};

/// Brings a coroutine back that has hopped to another executor's thread and stayed there.
asio::awaitable<void> return_home() { co_await asio::dispatch(asio::deferred); }

void wait_for_memory() noexcept { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

// The completion of a coroutine that has reported everything already.
struct nothing_left_to_say {
  void operator()(std::exception_ptr) const noexcept {}
};

/// A scope that owns its node.
class fresh_scope {
public:
  fresh_scope(ref_ptr<async_call> call, ref_ptr<chain_node> node) noexcept
      : node_(std::move(node)), scope(*call.detach(), *node_) {}

private:
  ref_ptr<chain_node> node_;

public:
  coroutine_scope scope;
};

asio::awaitable<void> run_once(fresh_scope own, asio::cancellation_signal& signal) {
  coroutine_scope& scope = own.scope;
  {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    deadline_timer deadline(scope.call(), [&executor] { return executor; });
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
  const ref_ptr<task_scope> tasks = node_.tasks();
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

void coroutine_scope::finish() noexcept {
  async_call& call = *std::exchange(call_, nullptr);
  call.finish_and_release(node_.leave());
}

resident::resident(ref_ptr<loop> home)
    : node_(new chain_node(std::move(home), std::make_unique<loop_memory>())) {}

resident::~resident() = default;

void resident::launch() {
  asio::co_spawn(chain_executor(node_), main(ref_ptr<resident>(this)),
                 asio::bind_cancellation_slot(signal_.slot(), nothing_left_to_say{}));
  idle_owners_ = node_->owners();
  idle_work_ = node_->unfinished();
}

bool resident::forget_place() noexcept {
  // That of the thread whose loop this is will do for its next call.
  const chain_place& place = node_->place();
  if (!place.hangs() && (!place.blocked || place.blocked.get() == &node_->own_loop()->owner()))
    return true;
  if (!reusable()) return false;
  node_->forget_place();
  return true;
}

void resident::waits(coroutine_frame& frame) noexcept {
  wait_.take(frame);
  if (!forget_place()) node_->own_loop()->place_is_kept();
}

// The coroutine does not end here, or it would take its memory with it.
void resident::run(async_call& call, thread_state& thread) {
  call_ = &call;
  if (call.waiter_outlives_)
    node_->enter_root(*call.waiter_, call.hand_values_on(), call.hosts_tasks_);
  else
    node_->enter(call.take_place(), call.hand_values_on(), std::move(call.tasks_),
                 call.hosts_tasks_);
  last_call_ = call.where();
  told_ = false;
  const node_scope scope(node_.get(), thread);
  wait_.resume();
}

void resident::retire() noexcept {
  const ref_ptr<resident> self(this);
  const node_scope scope(node_.get(), this_thread_state());
  try {
    wait_.resume();
  } catch (const std::bad_alloc&) {
    // There was none for its last step either: it has gone without that.
  }
}

void resident::tell_leftovers() noexcept {
  if (told_ || node_->unfinished() <= idle_work_) return;
  told_ = true;
  report_misuse(last_call_, "a call has ended and left work behind on its loop",
                "  why  a coroutine of a bare asio::co_spawn, or an operation, has not ended; it "
                "goes on when\n"
                "       this thread drives its loop again, if it does\n"
                "  fix  wait for it, or make it a task: with_task_group or create_task\n");
}

asio::awaitable<void> resident::main(ref_ptr<resident> self) {
  for (;;) {
    co_await once_suspended{[self = self.get()](coroutine_frame& frame) { self->waits(frame); }};
    if (!self->call_) co_return;
    {
      coroutine_scope scope(*std::exchange(self->call_, nullptr), *self->node_);
      try {
        co_await asio::this_coro::reset_cancellation_state();
        // Not on the node: a cancelled wait that still stands in the loop's queue is no work that
        // the call left behind.
        deadline_timer deadline(scope.call(), [&self] {
          return asio::any_io_executor(self->node_->own_loop()->context().get_executor());
        });
        if (scope.begin(self->signal_)) {
          co_await asio::this_coro::throw_if_cancelled(true);
          try {
            scope.call().invoke();
            co_await once_suspended{awaiting_call{&scope.call()}};
            scope.call().store();
          } catch (...) {
            scope.failed();
          }
          while (const ref_ptr<task_scope> tasks = scope.tasks_to_wait_for()) {
            co_await asio::this_coro::throw_if_cancelled(false);
            try {
              co_await tasks->left();
            } catch (const std::bad_alloc&) {
              scope.cannot_wait(*tasks);
            }
          }
          while (!self->node_->own_loop()->turns_here()) {
            co_await asio::this_coro::throw_if_cancelled(false);
            try {
              co_await return_home();
            } catch (const std::bad_alloc&) {
              wait_for_memory();
            }
          }
          scope.end_step();
        }
      } catch (...) {
        scope.failed();  // there was no memory to begin it
      }
      // Back among the idle ones before the caller wakes and asks for one.
      self->node_->own_loop()->keep_resident(*self);
      scope.finish();
    }
  }
}

asio::awaitable<void> async_call::run() {
  invoke();
  co_await once_suspended{awaiting_call{this}};
  store();
}

void run_on_fresh_coroutine(ref_ptr<async_call> call, ref_ptr<chain_node> node,
                            asio::cancellation_signal& signal) {
  const chain_executor executor(node);
  asio::co_spawn(executor, run_once(fresh_scope(std::move(call), std::move(node)), signal),
                 asio::bind_cancellation_slot(signal.slot(), nothing_left_to_say{}));
}

}  // namespace bothworlds::detail
