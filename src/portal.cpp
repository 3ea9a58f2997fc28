// SPDX-License-Identifier: BSL-1.0
//
// A portal's loop and its thread.
//
// The thread comes from the library's cache, makes the loop its own and turns it until it is told
// to leave. calls_ lists the calls that have been let in and have not ended: stop() cancels them,
// or waits for the list to be empty; who leaves last, or loses patience, tells the thread. The
// thread then closes the loop, which fails whoever still waits for it. Everything here is counted:
// the thread, every call and the portal itself own a reference.
#include "completion.hpp"
#include "context_values.hpp"
#include "describe.hpp"
#include "forked_child.hpp"
#include "lane.hpp"
#include "loop.hpp"
#include "thread_cache.hpp"
#include "thread_record.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"

#include <bothworlds/blocking_portal.hpp>
#include <bothworlds/detail/crossing.hpp>
#include <bothworlds/error.hpp>

#include <boost/asio/error.hpp>
#include <boost/intrusive/list.hpp>

#include <mutex>
#include <string>

namespace bothworlds {
namespace detail {

class portal_core final : public ref_counted {
public:
  /// A call that has been let in.
  struct entry {
    async_call* call = nullptr;
    // mutex_; a child that is forked off meanwhile leaves it linked.
    boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>>
        hook;
  };

  explicit portal_core(const portal_options& options) : options_(options) {}

  /// Returns when the loop turns.
  void launch();
  /// Throws when the portal takes no more calls.
  void enter(entry& self, async_call& call);
  void leave(entry& self) noexcept;
  void block(async_call& call, const async_options& options);
  void start(const ref_ptr<portal_task>& task);
  void stop(stop_policy policy);

  bool is_of_parent_process() const noexcept { return process_.is_of_parent(); }
  const ref_ptr<loop>& turned() const noexcept { return loop_; }

private:
  using entries = boost::intrusive::list<
      entry, boost::intrusive::member_hook<entry, decltype(entry::hook), &entry::hook>,
      boost::intrusive::constant_time_size<false>>;

  ~portal_core() override = default;
  void serve_until_told() noexcept;
  void tell_to_leave() noexcept;

  const portal_options options_;
  const process_mark process_;
  completion ready_;  // the thread sets, like the next
  completion left_;
  ref_ptr<lane> lane_;  // the thread writes before it is ready, like the next two
  ref_ptr<loop> loop_;
  std::exception_ptr failure_;  // why it has no loop
  // Any thread sets it, the thread reads it: seq_cst, as loop::wake() asks.
  std::atomic<bool> leaving_{false};
  std::mutex mutex_;
  entries calls_;          // mutex_
  bool stopping_ = false;  // mutex_
};

class portal_task final : public ref_counted {
public:
  portal_task(portal_core& portal, ref_ptr<async_call> what) noexcept
      : core(&portal), call(std::move(what)) {}

  /// On the loop, or where it was found to be closed, or where a deadlock was.
  void end() noexcept {
    if (flags.fetch_or(end_seen, std::memory_order_acq_rel) & drop_seen) report();
    ended.set();
    core->leave(entered);
  }
  void drop() noexcept {
    if (flags.fetch_or(drop_seen, std::memory_order_acq_rel) & end_seen) report();
  }

  const ref_ptr<portal_core> core;
  const ref_ptr<async_call> call;
  portal_core::entry entered;
  completion ended;

private:
  enum : unsigned { end_seen = 1, drop_seen = 2 };

  ~portal_task() override = default;

  void report() noexcept {
    try {
      call->rethrow_failure();
    } catch (const boost::system::system_error& failure) {
      if (failure.code() == asio::error::operation_aborted || failure.code() == errc::loop_stopped)
        return;
      report_as_unhandled();
    } catch (...) {
      report_as_unhandled();
    }
  }
  void report_as_unhandled() const noexcept {
    try {
      report_unhandled(("the call that " + describe(call->where()) +
                        " started in a blocking_portal, and whose future was dropped")
                           .c_str());
    } catch (const std::bad_alloc&) {
      report_unhandled("a call in a blocking_portal whose future was dropped");
    }
  }

  std::atomic<unsigned> flags{0};  // who sets the second one reports
};

void portal_core::launch() {
  run_on_library_thread([served = ref_ptr<portal_core>(this)] { served->serve_until_told(); });
  if (!ready_.wait()) throw call_of_parent(std::source_location::current());
  if (failure_) std::rethrow_exception(failure_);
}

void portal_core::serve_until_told() noexcept {
  struct until_told final : driver {
    explicit until_told(const std::atomic<bool>& flag) noexcept : leaving(flag) {}
    bool should_leave() const noexcept override { return leaving.load(std::memory_order_seq_cst); }
    void about_to_sleep(loop& in) const noexcept override {
      thread_record::falls_asleep(nullptr, &in);
    }
    void woke_up() const noexcept override { thread_record::wakes_up(); }
    const std::atomic<bool>& leaving;
  };
  try {
    thread_state& thread = this_thread_state();
    thread_record::of_this_thread();
    if (!thread.own_lane) thread.own_lane = new lane(lane::kind::of_a_thread);
    lane_ = thread.own_lane;
    loop_ = new loop(*lane_);
  } catch (...) {
    failure_ = std::current_exception();
    return ready_.set();
  }
  loop_->try_drive();
  ready_.set();
  loop_->turn(until_told(leaving_));
  if (is_of_parent_process()) end_forked_child(nullptr);
  loop_->release();
  loop_->close();
  left_.set();
}

void portal_core::tell_to_leave() noexcept {
  leaving_.store(true, std::memory_order_seq_cst);
  loop_->wake();
}

void portal_core::enter(entry& self, async_call& call) {
  if (is_of_parent_process())
    throw error(errc::forked_child, call.where(),
                "a blocking_portal made before fork() was called in the child",
                "  fix  make a portal in the child\n");
  const std::lock_guard lock(mutex_);
  if (stopping_)
    throw error(errc::loop_stopped, call.where(), "the blocking_portal has been stopped",
                "  fix  stop it after its last call\n");
  self.call = &call;
  calls_.push_back(self);
}

void portal_core::leave(entry& self) noexcept {
  if (is_of_parent_process()) return;
  bool last = false;
  {
    const std::lock_guard lock(mutex_);
    calls_.erase(calls_.iterator_to(self));
    last = stopping_ && calls_.empty();
  }
  if (last) tell_to_leave();
}

void portal_core::block(async_call& call, const async_options& options) {
  struct visit {
    visit(portal_core& to, async_call& call) : portal(to) { portal.enter(self, call); }
    ~visit() { portal.leave(self); }
    visit(const visit&) = delete;
    visit& operator=(const visit&) = delete;
    portal_core& portal;
    entry self;
  };
  const ref_ptr<portal_core> kept(this);
  call.set_loop(loop_);  // before stop() can find the call and cancel it
  const visit inside(*this, call);
  call.block(options, loop_.get());
}

void portal_core::start(const ref_ptr<portal_task>& task) {
  async_call& call = *task->call;
  call.set_loop(loop_);
  call.awaited_ = call.hosts_tasks_ = true;
  call.values_.begin(current_snapshot());
  call.then_ = continuation([task] { task->end(); });
  try {
    enter(task->entered, call);
  } catch (...) {
    call.then_.reset();
    throw;
  }
  intrusive_ptr_add_ref(&call);
  if (!loop_->push(call.start_op_)) call.started(false);
}

void portal_core::stop(stop_policy policy) {
  if (is_of_parent_process()) return;  // its thread does not exist here
  const ref_ptr<portal_core> self(this);
  bool idle = false;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    idle = calls_.empty();
    if (policy == stop_policy::cancel)
      for (entry& each : calls_) each.call->cut();
  }
  if (idle) tell_to_leave();
  if (loop_->turns_here()) return;
  const bool patient = policy == stop_policy::wait || options_.patience == no_timeout;
  if (!patient && !left_.wait_until(completion::clock::now() + options_.patience)) {
    if (is_of_parent_process()) return;
    tell_to_leave();
  }
  left_.wait();
}

void intrusive_ptr_add_ref(const portal_task* task) noexcept {
  intrusive_ptr_add_ref(static_cast<const ref_counted*>(task));
}
void intrusive_ptr_release(const portal_task* task) noexcept {
  intrusive_ptr_release(static_cast<const ref_counted*>(task));
}

void block_in_portal(portal_core& portal, async_call& call, const async_options& options) {
  portal.block(call, options);
}

ref_ptr<portal_task> start_in_portal(portal_core& portal, ref_ptr<async_call> call) {
  ref_ptr<portal_task> task(new portal_task(portal, std::move(call)));
  portal.start(task);
  return task;
}

bool has_ended(const portal_task& task) noexcept { return task.ended.is_set(); }

bool wait_for_end(portal_task& task, std::chrono::steady_clock::duration limit, const char* what,
                  std::source_location where) {
  if (task.ended.is_set()) return true;
  if (task.core->is_of_parent_process()) throw call_of_parent(where);
  check_may_block(what, where, nullptr);
  const may_block_scope* const blocking = this_thread_state().blocking;
  // What cancels the callable that waits here cancels the call it waits for.
  crossing* const caller = blocking ? blocking->call() : nullptr;
  struct attachment {
    crossing* caller;
    const process_mark process{};
    ~attachment() {
      if (caller && !process.is_of_parent()) caller->detach();
    }
  };
  if (caller) caller->attach(*task.call);
  const attachment attached{caller};
  const bool ended = limit == no_timeout ? task.ended.wait(task.call.get())
                                         : task.ended.wait_until(completion::clock::now() + limit);
  if (!ended && task.core->is_of_parent_process()) throw call_of_parent(where);
  return ended;
}

void cancel(portal_task& task) noexcept {
  if (task.core->is_of_parent_process()) return;  // its loop is not here
  task.call->request_cancel(asio::cancellation_type::terminal);
}

async_call& retrieve(portal_task& task) noexcept { return *task.call; }

void drop(portal_task& task) noexcept { task.drop(); }

void refuse_empty_future(std::source_location where) {
  throw misuse_error(errc::invalid_options, where, "this portal_future has no call",
                     "  why  it was moved from, or get() has given its result\n"
                     "  fix  call get() once\n");
}

}  // namespace detail

blocking_portal::blocking_portal(portal_options options) : core_(new detail::portal_core(options)) {
  core_->launch();
}

blocking_portal::~blocking_portal() { core_->stop(stop_policy::cancel); }

std::shared_ptr<blocking_portal> blocking_portal::shared() {
  static std::mutex mutex;
  static std::weak_ptr<blocking_portal> current;
  const std::lock_guard lock(mutex);
  std::shared_ptr<blocking_portal> portal = current.lock();
  if (!portal || portal->core_->is_of_parent_process())
    current = portal = std::make_shared<blocking_portal>();
  return portal;
}

void blocking_portal::stop(stop_policy policy, std::source_location where) {
  detail::check_may_block("blocking_portal::stop", where, nullptr);
  const detail::may_block_scope* const blocking = detail::this_thread_state().blocking;
  const detail::crossing* const caller = blocking ? blocking->call() : nullptr;
  if (caller && caller->awaiting_loop() == core_->turned().get())
    throw misuse_error(errc::would_deadlock, where,
                       "blocking_portal::stop would wait for its own caller",
                       "  at   " + detail::describe(caller->where()) +
                           ", the sync_to_async that a coroutine on the portal's loop awaits\n"
                           "  fix  stop the portal from outside\n");
  core_->stop(policy);
}

}  // namespace bothworlds
