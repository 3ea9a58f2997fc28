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
  deadline_timer(const asio::any_io_executor& executor, async_call& call) {
    const auto deadline = call.deadline();
    if (deadline == std::chrono::steady_clock::time_point::max()) return;
    timer_.emplace(executor, deadline);
    link_ = new link(call);
    timer_->async_wait([to = link_](boost::system::error_code failure) {
      if (!failure && to->call) to->call->time_is_over();
    });
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

  std::optional<asio::steady_timer> timer_;
  ref_ptr<link> link_;
};

/// Brings a coroutine back that has hopped to another executor's thread and stayed there.
asio::awaitable<void> return_home() { co_await asio::dispatch(asio::deferred); }

// The completion of a coroutine that has reported everything already.
struct nothing_left_to_say {
  void operator()(std::exception_ptr) const noexcept {}
};

asio::awaitable<void> run_once(coroutine_scope scope, asio::cancellation_signal& signal) {
  {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    deadline_timer deadline(executor, scope.call());
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

coroutine_scope::~coroutine_scope() {
  if (!call_) return;
  call_->fail(exception_from([this] {
    return error(errc::loop_stopped, call_->where(),
                 "the call's coroutine was destroyed before it ended",
                 "  why  its loop was destroyed, or had no memory to start it\n"
                 "  fix  let the loop live until the calls that run on it have returned\n");
  }));
  finish();
}

bool coroutine_scope::begin(asio::cancellation_signal& signal) noexcept {
  return call_->begin(*node_, signal);
}

ref_ptr<task_scope> coroutine_scope::tasks_to_wait_for() noexcept {
  if (!node_->hosts_tasks() || !node_->tasks()) return nullptr;
  const ref_ptr<task_scope> tasks = node_->tasks();
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
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void coroutine_scope::failed() noexcept { call_->fail(std::current_exception()); }

void coroutine_scope::finish() noexcept {
  const ref_ptr<async_call> call = std::move(call_);
  call->finish(node_->leave());
}

/// Stores the suspended coroutine in the resident.
struct resident::wait_for_call {
  resident* self;
  template <class Handler>
  void operator()(Handler&& handler) const {
    self->wait_ = continuation(std::forward<Handler>(handler));
    if (!self->forget_place()) self->node_->own_loop()->place_is_kept();
  }
};

resident::resident(ref_ptr<loop> home) : node_(new chain_node(std::move(home))) {}

resident::~resident() = default;

void resident::launch() {
  asio::co_spawn(chain_executor(node_), main(ref_ptr<resident>(this)),
                 asio::bind_cancellation_slot(signal_.slot(), nothing_left_to_say{}));
  idle_owners_ = node_->owners();
  idle_work_ = node_->unfinished();
}

void resident::run(ref_ptr<async_call> call) {
  node_->enter(call->take_place(), call->share_values(), std::move(call->tasks_),
               call->hosts_tasks_);
  last_call_ = call->where();
  told_ = false;
  call_ = std::move(call);
  const node_scope scope(node_.get());
  wait_();
}

void resident::retire() noexcept {
  const ref_ptr<resident> self(this);
  const node_scope scope(node_.get());
  try {
    wait_();
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
  co_await asio::this_coro::throw_if_cancelled(false);
  for (;;) {
    const wait_for_call wait{self.get()};
    co_await asio::async_initiate<const asio::deferred_t&, void()>(wait, asio::deferred);
    if (!self->call_) co_return;
    {
      coroutine_scope scope(std::move(self->call_), self->node_);
      {
        co_await asio::this_coro::reset_cancellation_state();
        // Not on the node: a cancelled wait that still stands in the loop's queue is no work that
        // the call left behind.
        deadline_timer deadline(self->node_->own_loop()->context().get_executor(), scope.call());
        if (scope.begin(self->signal_)) {
          co_await asio::this_coro::throw_if_cancelled(true);
          try {
            co_await scope.call().run();
          } catch (...) {
            scope.failed();
          }
          co_await asio::this_coro::throw_if_cancelled(false);
          while (const ref_ptr<task_scope> tasks = scope.tasks_to_wait_for()) {
            try {
              co_await tasks->left();
            } catch (const std::bad_alloc&) {
              scope.cannot_wait(*tasks);
            }
          }
          if (!self->node_->own_loop()->turns_here()) co_await return_home();
          scope.end_step();
        }
      }
      // Back among the idle ones before the caller wakes and asks for one.
      const bool stays = self->node_->own_loop()->keep_resident(self);
      scope.finish();
      if (!stays) co_return;
    }
  }
}

void run_on_fresh_coroutine(ref_ptr<async_call> call, ref_ptr<chain_node> node,
                            asio::cancellation_signal& signal) {
  const chain_executor executor(node);
  asio::co_spawn(executor, run_once(coroutine_scope(std::move(call), std::move(node)), signal),
                 asio::bind_cancellation_slot(signal.slot(), nothing_left_to_say{}));
}

}  // namespace bothworlds::detail
