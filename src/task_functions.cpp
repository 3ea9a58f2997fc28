// SPDX-License-Identifier: BSL-1.0
//
// What the typed shells of tasks and groups call.
#include "chain.hpp"
#include "context_values.hpp"
#include "serial_executor.hpp"
#include "task_core.hpp"
#include "wait_for_memory.hpp"

#include <bothworlds/error.hpp>

#include <boost/asio/this_coro.hpp>

#include <chrono>
#include <new>

namespace bothworlds::detail {
namespace {

/// The values of the coroutine with this executor; null: it carries none.
value_cell* cell_of(const asio::any_io_executor& executor) noexcept {
  const ref_ptr<chain_node>* const node = find_node(executor);
  return node ? &(*node)->values() : nullptr;
}

context_snapshot::pointer values_of(const asio::any_io_executor& executor) noexcept {
  value_cell* const cell = cell_of(executor);
  return cell ? hand_on(*cell) : nullptr;
}

/// What is started side by side runs one at a time, also below a coroutine of somebody else's that
/// has no strand.
asio::any_io_executor in_turns(const asio::any_io_executor& executor) {
  return find_node(executor) ? executor : serialised(executor);
}

void start_member(const ref_ptr<task_scope>& scope, ref_ptr<async_call> call,
                  const asio::any_io_executor& executor) {
  const auto member = make_counted<task_core>(std::move(call), scope, task_core::role::member);
  member->start(executor, values_of(executor), scope);
}

/// Waits until all that belongs to the group has ended. Made before anything is started: from then
/// on nobody leaves early because there is no memory to wait with. That is an error of the group's,
/// and the wait is tried again.
asio::awaitable<void> leave(ref_ptr<task_scope> group) {
  for (;;) {
    try {
      co_await group->left();
      co_return;
    } catch (const std::bad_alloc&) {
      group->fail(std::current_exception());
    }
    wait_for_memory();
  }
}

std::chrono::steady_clock::time_point deadline_after(
    std::chrono::steady_clock::duration limit) noexcept {
  const auto now = std::chrono::steady_clock::now();
  const auto never = std::chrono::steady_clock::time_point::max();
  return limit >= never - now ? never : now + limit;
}

}  // namespace

void intrusive_ptr_add_ref(const task_core* core) noexcept {
  intrusive_ptr_add_ref(static_cast<const ref_counted*>(core));
}
void intrusive_ptr_release(const task_core* core) noexcept {
  intrusive_ptr_release(static_cast<const ref_counted*>(core));
}
void intrusive_ptr_add_ref(const task_scope* scope) noexcept {
  intrusive_ptr_add_ref(static_cast<const ref_counted*>(scope));
}
void intrusive_ptr_release(const task_scope* scope) noexcept {
  intrusive_ptr_release(static_cast<const ref_counted*>(scope));
}

void cancel_task(task_core& task) noexcept { task.cancel(); }
bool is_done(const task_core& task) noexcept { return task.ended().is_set(); }
async_call& call_of(const task_core& task) noexcept { return task.call(); }

asio::awaitable<void> join_task(ref_ptr<task_core> task) {
  co_await task->ended().wait(task, nullptr);
  task->seen();
  if (task->failure()) std::rethrow_exception(task->failure());
}

asio::awaitable<void> end_of(ref_ptr<task_core> started) {
  const ref_ptr<async_call> call(&started->call());
  std::exception_ptr no_memory;
  for (;;) {
    try {
      co_await started->ended().wait(started, call);
      break;
    } catch (const std::bad_alloc&) {
      no_memory = std::current_exception();
      call->request_cancel(asio::cancellation_type::terminal);
    }
    wait_for_memory();
  }
  if (no_memory) std::rethrow_exception(no_memory);
}

void claim_result(task_core& task) {
  if (!task.take_result())
    throw misuse_error(errc::invalid_options, task.call().where(),
                       "a task whose result cannot be copied was joined twice",
                       "  fix  join it once, or let it return a std::shared_ptr\n");
}

asio::awaitable<ref_ptr<task_core>> create_task_of(ref_ptr<async_call> call) {
  call->awaited();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  const ref_ptr<chain_node>* const node = find_node(executor);
  const ref_ptr<task_scope> scope = node ? (*node)->tasks(call->where()) : nullptr;
  if (!scope)
    throw misuse_error(
        errc::no_context, call->where(), "create_task was called where nothing waits for tasks",
        "  why  this coroutine runs neither under run or async_to_sync nor in a task group\n"
        "  fix  use bothworlds::with_task_group, or start the program's coroutine with run\n");
  const auto task = make_counted<task_core>(std::move(call), scope, task_core::role::task);
  task->start(executor, values_of(executor), scope);
  co_return task;
}

ref_ptr<task_scope> make_group(std::source_location where) {
  return make_counted<task_scope>(task_scope::kind::group, where);
}

ref_ptr<task_core> spawn_into(task_scope& group, ref_ptr<async_call> call) {
  call->awaited();
  const asio::any_io_executor executor = group.executor();
  const ref_ptr<task_scope> scope(&group);
  auto task = make_counted<task_core>(std::move(call), scope, task_core::role::task);
  task->start(executor, current_snapshot(), scope);
  return task;
}

void cancel_group(task_scope& group) noexcept { group.cancel(); }

asio::awaitable<void> run_group(ref_ptr<task_scope> group, ref_ptr<async_call> body, bool is_void) {
  body->awaited();
  const asio::any_io_executor executor = in_turns(co_await asio::this_coro::executor);
  group->open(executor);
  asio::awaitable<void> left = leave(group);
  start_member(group, body, executor);
  group->release();
  co_await std::move(left);
  if (value_cell* const mine = cell_of(executor)) take_back(*mine, body->take_values());
  group->rethrow_first();
  if (is_void && group->cancelled_from_inside()) body->forget_failure();
}

asio::awaitable<void> run_all(std::vector<ref_ptr<async_call>> members,
                              std::source_location where) {
  for (const ref_ptr<async_call>& member : members) member->awaited();
  const asio::any_io_executor executor = in_turns(co_await asio::this_coro::executor);
  const ref_ptr<task_scope> group = make_group(where);
  asio::awaitable<void> left = leave(group);
  try {
    for (ref_ptr<async_call>& member : members) start_member(group, std::move(member), executor);
  } catch (...) {
    group->fail(std::current_exception());
  }
  group->release();
  co_await std::move(left);
  group->rethrow_first();
}

asio::awaitable<void> run_within(ref_ptr<async_call> call,
                                 std::chrono::steady_clock::duration limit) {
  call->awaited();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  const ref_ptr<chain_node>* const node = find_node(executor);
  const auto inner = make_counted<task_core>(call, nullptr, task_core::role::member);
  asio::awaitable<void> ended = end_of(inner);
  inner->start(executor, values_of(executor), node ? (*node)->tasks(call->where()) : nullptr,
               deadline_after(limit));
  co_await std::move(ended);
  if (value_cell* const mine = cell_of(executor)) take_back(*mine, call->take_values());
}

}  // namespace bothworlds::detail
