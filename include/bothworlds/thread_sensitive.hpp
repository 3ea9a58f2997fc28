// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/traits.hpp>

#include <boost/asio/awaitable.hpp>

#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

namespace detail {

/// Runs `call` on a chain node that has a sync thread of its own. On the awaiting coroutine's
/// executor.
BOTHWORLDS_API asio::awaitable<void> run_in_sensitive_context(ref_ptr<async_call> call);

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class Call>
asio::awaitable<typename Call::result> await_in_sensitive_context(ref_ptr<Call> call) {
  co_await run_in_sensitive_context(call);
  co_return call->take();
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace detail

/// Gives the thread-sensitive calls under `coroutine_fn` a thread of their own: `co_await
/// with_thread_sensitive_context(coroutine_fn)`.
///
/// Runs        coroutine_fn() on the executor of the awaiting coroutine. Its calls of sync_to_async
///             with thread_sensitive, at any depth, run on one thread, in order, which is taken at
///             the first of them and given back when the context is left. Inside another context,
///             and where the chain began on a plain thread (whose thread they run on), nothing
///             changes: it is re-entrant.
/// Returns     an awaitable of what coroutine_fn's awaitable gives; throws what it throws.
/// Cancellation  reaches coroutine_fn's coroutine. Leaving never blocks the loop.
/// Threads     any; the awaitable belongs to the coroutine that awaits it.
template <class F>
[[nodiscard]] auto with_thread_sensitive_context(
    F coroutine_fn, std::source_location where = std::source_location::current()) {
  static_assert(
      is_async_callable_v<F>,
      "with_thread_sensitive_context: give it a function without parameters that returns an "
      "asio::awaitable");
  using call = detail::awaited_call<F>;
  return detail::await_in_sensitive_context(
      detail::ref_ptr<call>(new call(where, std::move(coroutine_fn))));
}

}  // namespace bothworlds
