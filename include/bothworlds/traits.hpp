// SPDX-License-Identifier: BSL-1.0
//
// Which callables are async, as far as their type tells.
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>

#include <functional>
#include <type_traits>
#include <utility>

namespace bothworlds {

namespace asio = boost::asio;

namespace detail {

template <class T>
struct awaitable_traits : std::false_type {};
template <class T, class Executor>
struct awaitable_traits<asio::awaitable<T, Executor>> : std::true_type {
  using value_type = T;
  using executor_type = Executor;
};

/// Stands for a result that cannot be told without the arguments.
struct unknown_result {};

template <class R, class... A>
std::type_identity<R> result_of(R (*)(A...));
template <class R, class... A>
std::type_identity<R> result_of(R (*)(A..., ...));
template <class R, class C, class... A>
std::type_identity<R> result_of(R (C::*)(A...));
template <class R, class C, class... A>
std::type_identity<R> result_of(R (C::*)(A...) const);
template <class R, class C, class... A>
std::type_identity<R> result_of(R (C::*)(A...) &);
template <class R, class C, class... A>
std::type_identity<R> result_of(R (C::*)(A...) const&);
template <class R, class C, class... A>
std::type_identity<R> result_of(R (C::*)(A...) &&);
template <class R, class C, class... A>
std::type_identity<R> result_of(R (C::*)(A...) const&&);

template <class F>
consteval auto find_result() {
  if constexpr (requires { typename F::bothworlds_result_tag; })
    return std::type_identity<unknown_result>{};
  else if constexpr (std::is_member_object_pointer_v<F>)
    return std::type_identity<unknown_result>{};
  else if constexpr (requires(F f) { result_of(f); })
    return decltype(result_of(std::declval<F>())){};
  else if constexpr (requires { result_of(&F::operator()); })
    return decltype(result_of(&F::operator())){};
  else if constexpr (std::is_invocable_v<F>)
    return std::type_identity<std::invoke_result_t<F>>{};
  else
    return std::type_identity<unknown_result>{};
}

// A class that inherits from F and from this has an ambiguous operator() exactly if F has any.
struct call_probe {
  void operator()();
};
template <class F>
struct call_probe_of : F, call_probe {};

template <class F>
consteval bool is_callable() {
  if constexpr (std::is_class_v<F>) {
    if constexpr (std::is_final_v<F>)
      return true;  // nothing to ask it; a call with arguments will tell
    else
      return !requires { &call_probe_of<F>::operator(); };
  } else {
    return std::is_function_v<std::remove_pointer_t<F>> || std::is_member_pointer_v<F>;
  }
}

template <class F>
consteval bool is_async_by_type() {
  if constexpr (requires { F::bothworlds_is_async; })
    return F::bothworlds_is_async;
  else
    return awaitable_traits<
               std::remove_cvref_t<typename decltype(find_result<F>())::type>>::value ||
           asio::is_async_operation<
               std::remove_cvref_t<typename decltype(find_result<F>())::type>>::value;
}

template <class R>
inline constexpr bool is_async_result_v = awaitable_traits<std::remove_cvref_t<R>>::value ||
                                          asio::is_async_operation<std::remove_cvref_t<R>>::value;

template <class F, class... Args>
consteval bool is_async_call() {
  if constexpr (requires { F::bothworlds_is_async; })
    return F::bothworlds_is_async;
  else if constexpr (std::is_invocable_v<F, Args...>)
    return is_async_result_v<std::invoke_result_t<F, Args...>>;
  else
    return sizeof...(Args) == 0 && is_async_by_type<F>();
}

}  // namespace detail

/// True if T is an `asio::awaitable` of any value and executor.
template <class T>
inline constexpr bool is_awaitable_v = detail::awaitable_traits<std::remove_cvref_t<T>>::value;

/// True if calling F, with `Args` where its type alone does not tell, gives an awaitable or a
/// deferred operation; also for what sync_to_async and ensure_async return. False for what
/// async_to_sync and ensure_sync return.
template <class F, class... Args>
inline constexpr bool is_async_callable_v = detail::is_async_call<std::decay_t<F>, Args...>();

/// Something that can be called, and is not known to be async: what sync_to_async takes.
template <class F>
concept sync_callable =
    detail::is_callable<std::decay_t<F>>() && !is_async_callable_v<std::decay_t<F>>;

/// Something that can be called, and may be async: what async_to_sync takes.
template <class F>
concept async_callable =
    detail::is_callable<std::decay_t<F>>() &&
    (is_async_callable_v<std::decay_t<F>> ||
     std::is_same_v<typename decltype(detail::find_result<std::decay_t<F>>())::type,
                    detail::unknown_result>);

}  // namespace bothworlds
