// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"
#include "describe.hpp"
#include "lane.hpp"
#include "per_process.hpp"
#include "thread_cache.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"

#include <bothworlds/detail/bound_core.hpp>
#include <bothworlds/detail/awaited_crossing.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/thread_bound.hpp>

#include <boost/intrusive/list.hpp>

#include <cstdio>
#include <cstdlib>

#include <pthread.h>

namespace bothworlds {
namespace detail {

/// The objects of this process that are open, for counting them and for naming those that are
/// forgotten.
class bound_registry {
public:
  static bound_registry& instance() {
    static constinit per_process<bound_registry> registry;
    return registry.get();
  }

  void enter(bound_core& object) {
    // Before the handle's constructor is done, and so run after the destructor of the last static
    // handle.
    static const int at_exit = std::atexit([] { instance().report_forgotten(); });
    (void)at_exit;
    const std::lock_guard lock(mutex_);
    open_.push_back(object);
  }
  void leave(bound_core& object) noexcept {
    const std::lock_guard lock(mutex_);
    open_.erase(open_.iterator_to(object));
    if (object.left_behind_) --left_behind_;
  }
  void leave_behind(bound_core& object) noexcept {
    const std::lock_guard lock(mutex_);
    if (!object.registry_hook_.is_linked()) return;
    object.left_behind_ = true;
    ++left_behind_;
  }
  thread_bound_counts counts() noexcept {
    const std::lock_guard lock(mutex_);
    return {open_.size(), left_behind_};
  }

private:
  void report_forgotten() noexcept {
    const std::lock_guard lock(mutex_);
    for (const bound_core& object : open_)
      if (!object.left_behind_) object.report("was never closed: its object is not destroyed");
  }

  using objects = boost::intrusive::list<
      bound_core, boost::intrusive::member_hook<bound_core, boost::intrusive::list_member_hook<>,
                                                &bound_core::registry_hook_>>;

  std::mutex mutex_;
  objects open_;                 // mutex_
  std::size_t left_behind_ = 0;  // mutex_
};

/// Where close() waits.
class bound_core::closing_target final : public call_target {
public:
  explicit closing_target(bound_core& object) noexcept : object_(&object) {}

  void check(std::source_location where) const override { object_->check(where); }

  void submit(crossing& call, const chain_node* awaiting) override {
    if (object_->is_awaited_by(awaiting))
      throw misuse_error(
          errc::would_deadlock, call.where(),
          "thread_bound::close() is awaited below a call that is running on the object",
          "  made " + describe(object_->where_) +
              "\n  why  the object is destroyed after that call, which waits for this one\n"
              "  fix  close it after the call has returned\n");
    object_->lane_->retire();
    if (!object_->lane_->push_last(call) && call.try_claim())
      ref_ptr<crossing>(&call).detach()->run();
  }

  void withdraw(crossing& call) noexcept override { object_->lane_->remove(call); }

private:
  const ref_ptr<bound_core> object_;
};

namespace {

/// Shows another name of the calling thread while it lives.
class shown_name {
public:
  explicit shown_name(const std::string& name) noexcept {
    ::pthread_getname_np(::pthread_self(), before_, sizeof before_);
    ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
  }
  ~shown_name() { ::pthread_setname_np(::pthread_self(), before_); }
  shown_name(const shown_name&) = delete;
  shown_name& operator=(const shown_name&) = delete;

private:
  char before_[16] = {};
};

}  // namespace

call_target::~call_target() = default;

bound_core::bound_core(thread_bound_options options, std::source_location where)
    : options_(std::move(options)),
      where_(where),
      fork_generation_(fork_generation()),
      lane_(new lane(lane::kind::bound)) {}

bound_core::~bound_core() = default;

bool bound_core::of_another_process() const noexcept {
  return fork_generation_ != fork_generation();
}

void bound_core::open() {
  this_thread_state();  // if this is the main thread, its end is noticed: see process_is_ending()
  bound_registry& registry = bound_registry::instance();
  registry.enter(*this);
  try {
    run_on_library_thread([object = ref_ptr<bound_core>(this)] { object->live(); }, where_);
  } catch (...) {
    registry.leave(*this);
    throw;
  }
}

void bound_core::live() noexcept {
  {
    const lane_occupancy here(*lane_);
    {
      const shown_name shown(options_.name);
      call_hook(options_.on_thread_start, "thread_bound_options::on_thread_start");
      lane_->shows("making the object", where_);
      try {
        make();
        stage_ = stage::alive;
      } catch (...) {
        failure_ = std::current_exception();
        stage_ = stage::failed;
      }
      lane_->serve_queues();
      if (stage_ == stage::alive) {
        stage_ = stage::gone;
        lane_->shows("destroying the object", where_);
        destroy();
      }
      lane_->shows(nullptr, where_);
      call_hook(options_.on_thread_stop, "thread_bound_options::on_thread_stop");
    }
    bound_registry::instance().leave(*this);
    // What is still queued came from a task that has outlived its call: it finds no object.
    while (!lane_->vacate()) lane_->serve_queues();
  }
  const std::lock_guard lock(mutex_);
  has_moved_out_ = true;
  moved_out_.notify_all();
}

bool bound_core::is_awaited_by(const chain_node* chain) const noexcept {
  return chain && chain->is_below(*lane_);
}

bool bound_core::on_its_thread() const noexcept { return this_thread_state().own_lane == lane_; }

void bound_core::close_within_patience() noexcept {
  if (of_another_process()) return;  // the thread, and with it the object, is not in this process
  lane_->retire();
  const bool process_ends = process_is_ending();
  pool_worker* worker = nullptr;
  if (process_ends) {
    report("is closed only now that the process ends");
  } else {
    const thread_state& thread = this_thread_state();
    const crossing* const caller = thread.blocking ? thread.blocking->call() : nullptr;
    if (thread.own_lane == lane_ || is_awaited_by(thread.node) ||
        (caller && is_awaited_by(caller->awaiting_node().get())))
      return;
    worker = thread.worker;
  }
  if (worker) worker->blocks();
  bool in_time = false;
  {
    std::unique_lock lock(mutex_);
    in_time = moved_out_.wait_for(lock, options_.patience, [this] { return has_moved_out_; });
  }
  if (worker) worker->resumes();
  if (in_time) return;
  bound_registry::instance().leave_behind(*this);
  report("is left behind: its thread is still busy, and the object with it");
}

void bound_core::report(const char* what) const noexcept {
  try {
    const lane_stats now = lane_->stats();
    std::string busy;
    if (now.busy)
      busy = "\n  busy " + now.running + ", for " + std::to_string(now.running_for.count()) + " ms";
    std::fprintf(stderr,
                 "bothworlds: a thread_bound %s\n  made %s%s\n"
                 "  fix  co_await close() before its handle goes, and before main() returns\n",
                 what, describe(where_).c_str(), busy.c_str());
  } catch (...) {
    std::fprintf(stderr, "bothworlds: a thread_bound %s\n  made %s:%u\n", what, where_.file_name(),
                 where_.line());
  }
}

void bound_core::check(std::source_location where) const {
  if (of_another_process())
    throw error(errc::forked_child, where,
                "this thread_bound was made before fork(), in the parent",
                "  made " + describe(where_) + "\n  fix  make one in the child\n");
}

void bound_core::check_alive(std::source_location where) const {
  switch (stage_) {
    case stage::alive: return;
    case stage::failed: std::rethrow_exception(failure_);
    case stage::making:
      throw misuse_error(
          errc::would_deadlock, where, "this object is called by the function that makes it",
          "  made " + describe(where_) + "\n  fix  call it once make() has returned\n");
    case stage::gone: throw closed_error(where);
  }
}

error bound_core::closed_error(std::source_location where) const {
  return error(errc::pool_closed, where, "the thread_bound is closed",
               "  made " + describe(where_) + "\n  fix  keep it until its last call has ended\n");
}

void bound_core::submit(crossing& call, const chain_node* awaiting) {
  if (is_awaited_by(awaiting) && lane_->push_nested(call)) return;
  if (!lane_->push_bound(call)) throw closed_error(call.where());
}

void bound_core::withdraw(crossing& call) noexcept { lane_->remove(call); }

ref_ptr<call_target> bound_core::closing() { return new closing_target(*this); }

thread_bound_stats bound_core::stats() const {
  check(std::source_location::current());
  lane_stats now = lane_->stats();
  return {now.queued,      now.oldest_queued,
          now.busy,        std::move(now.running),
          now.running_for, abandoned_.load(std::memory_order_relaxed)};
}

asio::awaitable<void> await_end_of(bound_core& object, std::source_location where) {
  struct nothing_to_do {
    void operator()() const noexcept {}
  };
  const call_options to(sync_options(), where, object.closing());
  using call = sync_call<awaited_crossing, nothing_to_do>;
  return await_crossing(ref_ptr<awaited_crossing<void>>(new call(to, nothing_to_do())));
}

}  // namespace detail

thread_bound_counts count_thread_bounds() noexcept {
  return detail::bound_registry::instance().counts();
}

}  // namespace bothworlds
