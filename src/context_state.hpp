// SPDX-License-Identifier: BSL-1.0
//
// What a bothworlds::context holds, and who may run in it: one call at a time, in the order of
// their coming. Nobody blocks for that; a call that has to wait is a suspended coroutine.
#pragma once

#include "context_values.hpp"
#include "event.hpp"

#include <bothworlds/detail/context_copy.hpp>
#include <bothworlds/detail/spin_mutex.hpp>

#include <mutex>

namespace bothworlds::detail {

/// A place in the line before a context.
struct context_turn final : ref_counted {
  event over;
  ref_ptr<context_turn>
      before;  // where it was given up: who is still to be waited for. Before `over` is set

private:
  ~context_turn() override = default;
};

class context_state final : public ref_counted {
public:
  explicit context_state(context_snapshot::pointer values) noexcept : values_(std::move(values)) {}

  context_snapshot::pointer share() const noexcept {
    const std::lock_guard lock(mutex_);
    return values_;
  }
  void keep(context_snapshot::pointer values) noexcept {
    const std::lock_guard lock(mutex_);
    values_.swap(values);
  }
  /// Puts `mine` at the end of the line; gives who stands before it. Null: nobody ever did.
  ref_ptr<context_turn> line_up(const ref_ptr<context_turn>& mine) noexcept {
    const std::lock_guard lock(mutex_);
    return std::exchange(last_, mine);
  }

private:
  ~context_state() override = default;

  mutable spin_mutex mutex_;
  context_snapshot::pointer values_;  // mutex_
  ref_ptr<context_turn> last_;        // mutex_
};

}  // namespace bothworlds::detail
