// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace bothworlds::detail {

/// One entry of a loop's completion queue, embedded in what it belongs to, so that queueing it
/// cannot fail.
class loop_op {
public:
  constexpr loop_op() noexcept = default;
  loop_op(const loop_op&) = delete;
  loop_op& operator=(const loop_op&) = delete;

  /// Its turn has come, on the driver. `deliver` is false when the loop is closed and the operation is
  /// only to let go of what it owns.
  virtual void take_turn(bool deliver) noexcept = 0;

  loop_op* next_ = nullptr;  // who queues it writes it, the driver reads it

protected:
  ~loop_op() = default;
};

}  // namespace bothworlds::detail
