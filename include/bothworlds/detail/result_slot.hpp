// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

/// What the far side of a crossing gets for a result of type R: references become
/// reference_wrappers.
template <class R>
using crossing_result_t =
    std::conditional_t<std::is_lvalue_reference_v<R>,
                       std::reference_wrapper<std::remove_reference_t<R>>, std::remove_cvref_t<R>>;

/// Room for one result that one thread stores and, later, another one takes. R needs no default
/// constructor.
template <class R>
class result_slot {
public:
  template <class T>
  void store(T&& value) {
    value_.emplace(std::forward<T>(value));
  }
  R take() { return *std::move(value_); }
  const R& get() const noexcept { return *value_; }

private:
  std::optional<R> value_;
};

template <>
class result_slot<void> {
public:
  void take() noexcept {}
  void get() const noexcept {}
};

}  // namespace bothworlds::detail
