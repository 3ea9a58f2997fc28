// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/detail/task_core.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace bothworlds {

namespace detail {

template <class R>
using gathered_t = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

template <class R>
gathered_t<R> take_gathered(awaited_result<R>& member) {
  if constexpr (std::is_void_v<R>) {
    member.take();
    return {};
  } else {
    return member.take();
  }
}

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class... R>
asio::awaitable<std::tuple<gathered_t<R>...>> gather_calls(
    std::source_location where, std::tuple<ref_ptr<awaited_result<R>>...> members) {
  std::vector<ref_ptr<async_call>> calls;
  calls.reserve(sizeof...(R));
  std::apply([&](const auto&... each) { (calls.push_back(each), ...); }, members);
  co_await run_all(std::move(calls), where);
  co_return std::apply(
      [](auto&... each) { return std::tuple<gathered_t<R>...>{take_gathered(*each)...}; }, members);
}

template <class R>
asio::awaitable<std::vector<R>> gather_vector(std::source_location where,
                                              std::vector<ref_ptr<awaited_result<R>>> members) {
  co_await run_all(std::vector<ref_ptr<async_call>>(members.begin(), members.end()), where);
  std::vector<R> results;
  results.reserve(members.size());
  for (const ref_ptr<awaited_result<R>>& each : members) results.push_back(each->take());
  co_return results;
}

inline asio::awaitable<void> gather_void(std::source_location where,
                                         std::vector<ref_ptr<awaited_result<void>>> members) {
  co_await run_all(std::vector<ref_ptr<async_call>>(members.begin(), members.end()), where);
  for (const ref_ptr<awaited_result<void>>& each : members) each->take();
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

template <class... A>
auto gather_all(std::source_location where, A&&... members) {
  return gather_calls<call_result_t<A>...>(where,
                                           std::tuple<ref_ptr<awaited_result<call_result_t<A>>>...>(
                                               make_call(std::move(members), where)...));
}

}  // namespace detail

/// Runs them side by side: `auto [a, b] = co_await gather(first(), second())`; name the result
/// first on g++ 15 and 16.
///
/// Runs        each member, an awaitable or a function without parameters that returns one, as a
/// task of its own on the
///             loop of the awaiting coroutine, with a snapshot of its context values.
/// Returns     a std::tuple of the results, in the order of the members; std::monostate for void.
/// Throws      the first error, unchanged, after all members have ended: it cancels the others.
/// errors_of() gives the
///             rest of the errors.
/// Cancellation  reaches every member.
// A default argument cannot follow a parameter pack, so the first few are written out: with them a
// report knows the place.
template <class A>
[[nodiscard("co_await it: nothing runs before")]] auto gather(
    A a, std::source_location where = std::source_location::current()) {
  return detail::gather_all(where, std::move(a));
}
template <class A, class B>
[[nodiscard("co_await it: nothing runs before")]] auto gather(
    A a, B b, std::source_location where = std::source_location::current()) {
  return detail::gather_all(where, std::move(a), std::move(b));
}
template <class A, class B, class C>
[[nodiscard("co_await it: nothing runs before")]] auto gather(
    A a, B b, C c, std::source_location where = std::source_location::current()) {
  return detail::gather_all(where, std::move(a), std::move(b), std::move(c));
}
template <class A, class B, class C, class D, class... More>
[[nodiscard("co_await it: nothing runs before")]] auto gather(A a, B b, C c, D d, More... more) {
  return detail::gather_all(std::source_location(), std::move(a), std::move(b), std::move(c),
                            std::move(d), std::move(more)...);
}

/// The same for any number of one type: gives a std::vector of the results, or nothing for void.
template <class A>
[[nodiscard("co_await it: nothing runs before")]] auto gather(
    std::vector<A> members, std::source_location where = std::source_location::current()) {
  using result = detail::call_result_t<A>;
  std::vector<detail::ref_ptr<detail::awaited_result<result>>> calls;
  calls.reserve(members.size());
  for (A& each : members) calls.push_back(detail::make_call(std::move(each), where));
  if constexpr (std::is_void_v<result>)
    return detail::gather_void(where, std::move(calls));
  else
    return detail::gather_vector<result>(where, std::move(calls));
}

}  // namespace bothworlds
