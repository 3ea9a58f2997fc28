// SPDX-License-Identifier: BSL-1.0
//
// What the templates of blocking_portal.hpp stand on.
#pragma once

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/awaited_call.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

class portal_core;

/// A call that was started and that nobody is blocked in: its end, and whether somebody still wants
/// to know.
class portal_task;
BOTHWORLDS_API void intrusive_ptr_add_ref(const portal_task* task) noexcept;
BOTHWORLDS_API void intrusive_ptr_release(const portal_task* task) noexcept;

/// Runs `call` on the portal's loop and blocks until it has ended.
BOTHWORLDS_API void block_in_portal(portal_core& portal, async_call& call,
                                    const async_options& options);
/// Starts `call` there.
BOTHWORLDS_API ref_ptr<portal_task> start_in_portal(portal_core& portal, ref_ptr<async_call> call);

BOTHWORLDS_API bool has_ended(const portal_task& task) noexcept;
/// Blocks until it has ended. False: it has not, within `limit`.
BOTHWORLDS_API bool wait_for_end(portal_task& task, std::chrono::steady_clock::duration limit,
                                 const char* what, std::source_location where);
BOTHWORLDS_API void cancel(portal_task& task) noexcept;
/// Its result is taken by who calls this: there is nothing left to report.
BOTHWORLDS_API async_call& retrieve(portal_task& task) noexcept;
/// Nobody will ask for its result.
BOTHWORLDS_API void drop(portal_task& task) noexcept;
[[noreturn]] BOTHWORLDS_API void refuse_empty_future(std::source_location where);

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

/// A blocking callable as a coroutine function that runs it right where the coroutine runs.
template <class F>
class run_in_place {
public:
  using result = crossing_result_t<std::invoke_result_t<F>>;

  explicit run_in_place(F callable) : callable_(std::move(callable)) {}
  // This object is kept by the call for as long as its coroutine runs.
  asio::awaitable<result> operator()() { co_return std::invoke(std::move(callable_)); }

private:
  F callable_;
};

BOTHWORLDS_COROUTINE_TEMPLATES_END

template <class F>
using portal_call = awaited_call<
    std::conditional_t<is_async_result_v<std::invoke_result_t<F>>, F, run_in_place<F>>>;

}  // namespace bothworlds::detail
