// SPDX-License-Identifier: BSL-1.0
#include "task_core.hpp"

#include "aborted.hpp"
#include "chain.hpp"
#include "context_values.hpp"
#include "describe.hpp"
#include "group_errors.hpp"
#include "per_process.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"

#include <bothworlds/error.hpp>

#include <memory>

namespace bothworlds::detail {

/// The scopes there are, whose members are listed there, and the tasks of none that have not ended:
/// for reports.
class task_registry {
public:
  template <class T>
  void add(T& what) noexcept {
    const std::lock_guard lock(mutex_);
    list_of(what).push_back(what);
  }
  template <class T>
  void remove(T& what) noexcept {
    const std::lock_guard lock(mutex_);
    if (what.registry_hook_.is_linked()) list_of(what).erase(list_of(what).iterator_to(what));
  }
  std::string describe_all() const {
    std::string text;
    const std::lock_guard lock(mutex_);
    for (const task_scope& scope : scopes_) text += scope.describe_members();
    for (const task_core& task : tasks_) text += describe_line(task);
    return text;
  }
  /// From the one of this process; nothing where it was never added.
  template <class T>
  static void unlist(T& what) noexcept;
  static std::string describe_line(const task_core& task) {
    return "  task       " + describe(task.call().where()) + "\n";
  }

private:
  template <class T>
  using list_of_all = boost::intrusive::list<
      T, boost::intrusive::member_hook<T, boost::intrusive::list_member_hook<>, &T::registry_hook_>,
      boost::intrusive::constant_time_size<false>>;

  list_of_all<task_scope>& list_of(task_scope&) noexcept { return scopes_; }
  list_of_all<task_core>& list_of(task_core&) noexcept { return tasks_; }

  mutable std::mutex mutex_;
  list_of_all<task_scope> scopes_;
  list_of_all<task_core> tasks_;
};

namespace {

constinit per_process<task_registry> registry;

}  // namespace

// In a forked child what was made before stands in a copy of the parent's registry, which nobody may
// touch.
template <class T>
void task_registry::unlist(T& what) noexcept {
  if (what.process_.is_of_parent())
    std::construct_at(&what.registry_hook_);
  else if (task_registry* const live = registry.find())
    live->remove(what);
}

std::string describe_live_tasks() { return registry.get().describe_all(); }

// --- task_core

void task_core::start(const asio::any_io_executor& executor, context_snapshot::pointer values,
                      ref_ptr<task_scope> tasks, std::chrono::steady_clock::time_point deadline) {
  task_scope* const scope = scope_.get();  // once it runs, it may end and let go of it any moment
  if (scope)
    scope->enter(*this);
  else
    registry.get().add(*this);
  try {
    call_->start_child(executor, std::move(values), std::move(tasks), deadline,
                       continuation([self = ref_ptr<task_core>(this)] { self->has_ended(); }));
  } catch (...) {
    scope_.reset();
    if (scope)
      scope->member_ended(*this);
    else
      task_registry::unlist(*this);
    throw;
  }
  if (scope) scope->member_started(*this);
}

bool task_core::was_cancelled() const noexcept {
  return failure_ && cancelled_.load(std::memory_order_relaxed) && is_operation_aborted(failure_);
}

// On the task's executor; its coroutine and its frame are gone.
void task_core::has_ended() noexcept {
  failure_ = call_->failure();
  if (role_ == role::task) {
    call_->discard();
    call_->take_values();
  }
  const ref_ptr<task_scope> scope = std::move(scope_);
  if (!scope) task_registry::unlist(*this);
  ended_.set();
  if (scope) scope->member_ended(*this);
}

task_core::~task_core() {
  if (role_ != role::task || !failure_ || seen_.load(std::memory_order_relaxed) || was_cancelled())
    return;
  report_failure(failure_, call_->where(), "a task failed, and nobody joined it",
                 "  fix  co_await the task's join(), or handle the error in the task\n");
}

// --- task_scope

task_scope::task_scope(kind what, std::source_location where) : kind_(what), where_(where) {
  registry.get().add(*this);
}

task_scope::~task_scope() { task_registry::unlist(*this); }

std::string task_scope::describe_members() const {
  std::string text;
  const std::lock_guard lock(mutex_);
  for (const task_core& member : members_) text += task_registry::describe_line(member);
  return text;
}

void task_scope::open(asio::any_io_executor executor) {
  const std::lock_guard lock(mutex_);
  executor_ = std::move(executor);
}

asio::any_io_executor task_scope::executor() const {
  const std::lock_guard lock(mutex_);
  if (executor_) return executor_;
  throw misuse_error(errc::no_context, where_, "a task was given to a group that is not open",
                     "  why  the group has been left, or its body has not been begun\n"
                     "  fix  spawn only from the body and from tasks of the group\n");
}

void task_scope::enter(task_core& member) {
  const std::lock_guard lock(mutex_);
  if (pending_ == 0)
    throw misuse_error(errc::no_context, member.call().where(),
                       "a task was given to a scope that has been left",
                       "  at   " + describe(where_) +
                           ", where the scope was made\n"
                           "  fix  start tasks from code that the scope still waits for\n");
  // Room for its error, so that keeping it cannot fail.
  if (kind_ == kind::group && errors_.capacity() <= entered_) errors_.reserve(2 * entered_ + 4);
  ++entered_;
  ++pending_;
}

void task_scope::member_started(task_core& member) noexcept {
  const std::lock_guard lock(mutex_);
  if (member.over_) return;
  members_.push_back(member);
  if (cancelled_) member.cancel();
}

void task_scope::member_ended(task_core& member) noexcept {
  std::unique_lock lock(mutex_);
  member.over_ = true;
  if (member.scope_hook_.is_linked()) members_.erase(members_.iterator_to(member));
  const bool wanted = member.was_cancelled();
  if (kind_ == kind::group && member.failure() && !wanted) take_error(member.failure());
  if (kind_ == kind::group) member.seen();
  one_less(lock);
}

void task_scope::fail(std::exception_ptr why) noexcept {
  const std::lock_guard lock(mutex_);
  take_error(why);
}

void task_scope::take_error(const std::exception_ptr& why) noexcept {
  const bool first = errors_.empty();
  try {
    errors_.push_back(why);  // there is room, but for one that could not be started
  } catch (const std::bad_alloc&) {
    report_failure(why, where_, "an error of a task group", "");
  }
  if (first) cancel_members();
}

void task_scope::release() noexcept {
  const ref_ptr<task_scope> self(this);
  std::unique_lock lock(mutex_);
  one_less(lock);
}

void task_scope::one_less(std::unique_lock<adaptive_mutex>& lock) noexcept {
  if (--pending_ != 0) return;
  const asio::any_io_executor done = std::move(executor_);
  executor_ = nullptr;
  lock.unlock();
  left_.set();
}

void task_scope::cancel_members() noexcept {
  cancelled_ = true;
  for (task_core& member : members_) member.cancel();
}

void task_scope::cancel() noexcept {
  const std::lock_guard lock(mutex_);
  cancel_members();
}

void task_scope::request_cancel(asio::cancellation_type) noexcept {
  const std::lock_guard lock(mutex_);
  cancelled_from_outside_ = true;
  cancel_members();
}

asio::awaitable<void> task_scope::left() {
  return left_.wait(ref_ptr<const ref_counted>(this), ref_ptr<blocked_call>(this));
}

bool task_scope::cancelled_from_inside() const noexcept {
  const std::lock_guard lock(mutex_);
  return cancelled_ && !cancelled_from_outside_ && errors_.empty();
}

void task_scope::rethrow_first() {
  std::vector<std::exception_ptr> errors;
  {
    const std::lock_guard lock(mutex_);
    errors = std::move(errors_);
  }
  if (errors.empty()) return;
  const std::exception_ptr first = errors.front();
  keep_errors(std::move(errors), where_);
  std::rethrow_exception(first);
}

}  // namespace bothworlds::detail
