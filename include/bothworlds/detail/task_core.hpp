// SPDX-License-Identifier: BSL-1.0
//
// Tasks and the scopes they belong to, without their types.
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <exception>
#include <source_location>
#include <vector>

namespace bothworlds::detail {

/// A coroutine that runs on its own, and what is known of it.
class task_core;
/// What tasks belong to, and what is not left before they have ended.
class task_scope;

BOTHWORLDS_API void intrusive_ptr_add_ref(const task_core* core) noexcept;
BOTHWORLDS_API void intrusive_ptr_release(const task_core* core) noexcept;

// --- tasks; any thread

BOTHWORLDS_API void cancel_task(task_core& task) noexcept;
BOTHWORLDS_API bool is_done(const task_core& task) noexcept;
/// Waits for its end and throws what it threw; from then on its failure counts as seen. Cancelling
/// the wait leaves the task alone.
BOTHWORLDS_API asio::awaitable<void> join_task(ref_ptr<task_core> task);
/// Its call, which has ended.
BOTHWORLDS_API async_call& call_of(const task_core& task) noexcept;
/// Throws misuse_error, invalid_options, at the second time: the result can be moved out only once.
BOTHWORLDS_API void claim_result(task_core& task);

/// Starts `call` as a task of the scope that the awaiting coroutine runs in. Throws misuse_error,
/// no_context.
BOTHWORLDS_API asio::awaitable<ref_ptr<task_core>> create_task_of(ref_ptr<async_call> call);

// --- groups

BOTHWORLDS_API ref_ptr<task_scope> make_group(std::source_location where);
/// Any thread, until the group is left: then it throws misuse_error, no_context.
BOTHWORLDS_API ref_ptr<task_core> spawn_into(task_scope& group, ref_ptr<async_call> call);
BOTHWORLDS_API void cancel_group(task_scope& group) noexcept;
/// Runs `body`, and waits until all that belongs to the group has ended. Throws the first error.
/// Where the group was cancelled from inside, and `is_void`, a body that was cut short by that
/// counts as having returned.
BOTHWORLDS_API asio::awaitable<void> run_group(ref_ptr<task_scope> group, ref_ptr<async_call> body,
                                               bool is_void);
/// Runs all of them; the first error cancels the others, and is thrown when all have ended.
BOTHWORLDS_API asio::awaitable<void> run_all(std::vector<ref_ptr<async_call>> members,
                                             std::source_location where);

// --- one call below the awaiting coroutine, which sees what it changes

/// Its own failure is in rethrow_failure(): timed_out, where it was cancelled because `limit` had
/// passed.
BOTHWORLDS_API asio::awaitable<void> run_within(ref_ptr<async_call> call,
                                                std::chrono::steady_clock::duration limit);

}  // namespace bothworlds::detail
