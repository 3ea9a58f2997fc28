// SPDX-License-Identifier: BSL-1.0
//
// The typed shell around an async_call: the callable, its arguments, and its result.
#pragma once

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/awaited_operation.hpp>
#include <bothworlds/detail/result_slot.hpp>
#include <bothworlds/traits.hpp>

#include <type_traits>
#include <utility>

namespace bothworlds::detail {

template <class R>
class awaited_result : public async_call {
public:
  using result = R;

  /// Once, after its end.
  R take() {
    if (has_ended()) discard();
    rethrow_failure();
    return result_.take();
  }
  /// After an end without failure; until it is taken.
  const result_slot<R>& stored() const noexcept { return result_; }

protected:
  using async_call::async_call;
  ~awaited_result() override = default;

  result_slot<R> result_;
};

template <class F, class... Args>
using awaited_result_of = awaited_result<typename awaited_operation<F, Args...>::result>;

/// F and Args are decayed.
template <class F, class... Args>
class awaited_call final : public awaited_result_of<F, Args...> {
  using base = awaited_result_of<F, Args...>;
  using base::result_;

public:
  using result = typename base::result;

  template <class G, class... As>
  explicit awaited_call(std::source_location where, G&& callable, As&&... args)
      : base(where),
        operation_(std::in_place, std::forward<G>(callable), std::forward<As>(args)...) {}

  void discard() noexcept override { operation_.discard(); }
  void invoke() override { operation_.invoke(result_, this->where()); }
  void await_from(coroutine_frame& host) override { operation_.await_from(host); }
  void store() override { operation_.store(result_); }
  void drop_operation() noexcept override { operation_.drop(); }

private:
  ~awaited_call() override = default;

  awaited_operation<F, Args...> operation_;
};

/// A call of `work`: an awaitable or a deferred operation, or a function without parameters that
/// gives one.
template <class A>
auto make_call(A&& work, std::source_location where) {
  using function = decltype(as_function(std::forward<A>(work)));
  if constexpr (is_async_callable_v<function>) {
    using call = awaited_call<function>;
    return ref_ptr<awaited_result<typename call::result>>(
        make_counted<call>(where, as_function(std::forward<A>(work))));
  }
}

}  // namespace bothworlds::detail
