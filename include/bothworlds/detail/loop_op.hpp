// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace bothworlds::detail {

/// One entry of a loop's completion queue, embedded in what it belongs to, so that queueing it
/// cannot fail.
struct loop_op {
  /// `deliver` is false when the loop is closed and the operation is only to let go of what it
  /// owns.
  using action = void (*)(loop_op*, bool deliver) noexcept;

  explicit loop_op(action run) noexcept : run_(run) {}

  loop_op* next_ = nullptr;  // who queues it writes it, the driver reads it
  const action run_;
};

}  // namespace bothworlds::detail
