// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "context_values.hpp"

#include <bothworlds/detail/context_copy.hpp>
#include <bothworlds/detail/spin_mutex.hpp>

#include <mutex>

namespace bothworlds::detail {

class context_state final : public ref_counted {
public:
  explicit context_state(context_snapshot::pointer values) noexcept : values_(std::move(values)) {}

  context_snapshot::pointer share() const noexcept {
    const std::lock_guard lock(mutex_);
    return values_;
  }

private:
  ~context_state() override = default;

  mutable spin_mutex mutex_;
  context_snapshot::pointer values_;  // mutex_
};

}  // namespace bothworlds::detail
