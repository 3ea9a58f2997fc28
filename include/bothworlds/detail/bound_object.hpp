// SPDX-License-Identifier: BSL-1.0
//
// The typed shell around a bound_core: room for the object, and how it is made and called.
#pragma once

#include <bothworlds/detail/awaited_crossing.hpp>
#include <bothworlds/detail/bound_core.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

template <class T>
class bound_object : public bound_core {
public:
  /// On its thread.
  T& get(std::source_location where) {
    check_alive(where);
    return *std::launder(reinterpret_cast<T*>(storage_));
  }

protected:
  using bound_core::bound_core;
  ~bound_object() override = default;

  void destroy() noexcept override {
    std::destroy_at(std::launder(reinterpret_cast<T*>(storage_)));
  }

  alignas(T) std::byte storage_[sizeof(T)];
};

template <class T, class Make>
class made_object final : public bound_object<T> {
public:
  template <class M>
  made_object(M&& make, thread_bound_options options, std::source_location where)
      : bound_object<T>(std::move(options), where), make_(std::forward<M>(make)) {}

private:
  ~made_object() override = default;

  // T is constructed in place: it need not be movable.
  void make() override {
    std::optional<Make> make = std::move(make_);
    make_.reset();
    ::new (static_cast<void*>(this->storage_)) T(std::invoke(*std::move(make)));
  }

  std::optional<Make> make_;
};

/// What a call on the object runs: F with the object as its argument.
template <class F, class T>
class bound_function {
  static constexpr bool stoppable = std::is_invocable_v<F, std::stop_token, T&>;

public:
  template <class G>
  bound_function(G&& function, bound_object<T>& object, std::source_location where)
      : function_(std::forward<G>(function)), object_(&object), where_(where) {}

  decltype(auto) operator()()
    requires(!stoppable)
  {
    return std::invoke(std::move(function_), object_->get(where_));
  }
  decltype(auto) operator()(std::stop_token stop)
    requires stoppable
  {
    return std::invoke(std::move(function_), std::move(stop), object_->get(where_));
  }

private:
  F function_;
  bound_object<T>* object_;  // the call's options own it
  std::source_location where_;
};

template <class F, class T>
using bound_result_t = sync_result_t<F, T&>;

}  // namespace bothworlds::detail
