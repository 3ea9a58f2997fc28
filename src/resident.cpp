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

/// Waits for the tasks of a call whose own coroutine has ended.
asio::awaitable<void> leave_tasks(ref_ptr<task_scope> tasks, bool cancels) {
  if (cancels) tasks->cancel();
  tasks->release();
  co_await tasks->left();
}

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
    if (const ref_ptr<task_scope> tasks = scope.own_tasks())
      co_await leave_tasks(tasks, scope.ends_its_tasks());
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
          if (const ref_ptr<task_scope> tasks = scope.own_tasks())
            co_await leave_tasks(tasks, scope.ends_its_tasks());
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
