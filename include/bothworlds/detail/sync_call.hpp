// SPDX-License-Identifier: BSL-1.0
//
// The typed shell around a crossing: the callable, its arguments, and its result.
#pragma once

#include <bothworlds/detail/crossing.hpp>
#include <bothworlds/detail/result_slot.hpp>

#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

/// True for a null function pointer, member pointer or std::function; false for what cannot be
/// empty.
template <class F>
bool is_empty_callable(const F& callable) {
  if constexpr (std::is_pointer_v<F> || std::is_member_pointer_v<F>)
    return callable == nullptr;
  else if constexpr (requires {
                       { !callable } -> std::same_as<bool>;
                       { callable == nullptr } -> std::same_as<bool>;
                     })
    return callable == nullptr;
  else
    return false;
}

/// Room for what a call comes to. What it holds is known by who owns it.
template <class R>
union call_result {
  call_result() noexcept {}
  ~call_result() {}
  R value;
  std::exception_ptr failure;
};
template <>
union call_result<void> {
  call_result() noexcept {}
  ~call_result() {}
  std::exception_ptr failure;
};

template <class R>
class sync_call_result : public crossing {
public:
  /// Once, where it has not failed. The call may live on for longer than who takes it.
  std::add_rvalue_reference_t<R> take_result() noexcept
    requires(!std::is_void_v<R>)
  {
    return std::move(result_.value);
  }

protected:
  using crossing::crossing;
  ~sync_call_result() override {
    if (outcome_ == outcome::failure) std::destroy_at(&result_.failure);
    if constexpr (!std::is_void_v<R>)
      if (outcome_ == outcome::result) std::destroy_at(std::addressof(result_.value));
  }

  /// The result of the call is constructed in place and never moved.
  template <class Call>
  void store_result_of(Call&& call) {
    if constexpr (std::is_void_v<R>)
      call();
    else
      ::new (static_cast<void*>(std::addressof(result_.value))) R(call());
    outcome_ = outcome::result;
  }

private:
  void fails(std::exception_ptr why) noexcept final {
    if (std::exchange(outcome_, outcome::failure) == outcome::failure)
      result_.failure = std::move(why);
    else
      std::construct_at(&result_.failure, std::move(why));
  }
  std::exception_ptr take_failure() noexcept final {
    return outcome_ == outcome::failure ? std::move(result_.failure) : nullptr;
  }

  call_result<R> result_;
};

/// Holds a T until reset(), which is called once at the most. Where nothing has to be destroyed it
/// neither does anything nor remembers that.
template <class T>
class discardable {
public:
  template <class... Args>
  explicit discardable(std::in_place_t, Args&&... args)
      : value_(std::in_place, std::forward<Args>(args)...) {}
  T& held() noexcept { return *value_; }
  void reset() noexcept { value_.reset(); }

private:
  std::optional<T> value_;
};
template <class T>
  requires std::is_trivially_destructible_v<T>
class discardable<T> {
public:
  template <class... Args>
  explicit discardable(std::in_place_t, Args&&... args) : value_(std::forward<Args>(args)...) {}
  T& held() noexcept { return value_; }
  void reset() noexcept {}

private:
  T value_;
};

template <bool TakesStopToken, class F, class... Args>
struct sync_call_traits {
  using type = std::invoke_result<F, Args...>;
};
template <class F, class... Args>
struct sync_call_traits<true, F, Args...> {
  using type = std::invoke_result<F, std::stop_token, Args...>;
};

/// As for std::jthread: a callable that can take a stop_token first gets one.
template <class F, class... Args>
inline constexpr bool takes_stop_token_v = std::is_invocable_v<F, std::stop_token, Args...>;

template <class F, class... Args>
using sync_result_t =
    typename sync_call_traits<takes_stop_token_v<F, Args...>, F, Args...>::type::type;

/// Result is a sync_call_result, and says who waits for it: offloaded_call or awaited_crossing. F and
/// Args are decayed.
template <template <class> class Result, class F, class... Args>
class sync_call final : public Result<crossing_result_t<sync_result_t<F, Args...>>> {
  using base = Result<crossing_result_t<sync_result_t<F, Args...>>>;
  static constexpr bool stoppable = takes_stop_token_v<F, Args...>;
  struct nothing {};

public:
  template <class G, class... As>
  explicit sync_call(const call_options& options, G&& callable, As&&... args)
      : base(options),
        payload_(std::in_place, std::in_place, std::forward<G>(callable),
                 std::forward<As>(args)...) {}

private:
  ~sync_call() override = default;

  void invoke() override {
    this->store_result_of(
        [this]() -> decltype(auto) { return call(std::index_sequence_for<Args...>()); });
  }

  template <std::size_t... I>
  decltype(auto) call(std::index_sequence<I...>) {
    auto& [callable, arguments] = payload_.held();
    if constexpr (stoppable)
      return std::invoke(std::move(callable), stop_.get_token(),
                         std::get<I>(std::move(arguments))...);
    else
      return std::invoke(std::move(callable), std::get<I>(std::move(arguments))...);
  }

  void discard() noexcept override { payload_.reset(); }

  void request_stop() noexcept override {
    if constexpr (stoppable) stop_.request_stop();
  }

  struct payload {
    template <class G, class... As>
    explicit payload(std::in_place_t, G&& what, As&&... args)
        : callable(std::forward<G>(what)), arguments(std::forward<As>(args)...) {}

    F callable;
    [[no_unique_address]] std::tuple<Args...> arguments;
  };

  discardable<payload> payload_;
  [[no_unique_address]] std::conditional_t<stoppable, std::stop_source, nothing> stop_;
};

}  // namespace bothworlds::detail
