// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "thread_state.hpp"

namespace bothworlds::detail {

/// While it lives, this thread hands a function object to an executor that does not call it from
/// within.
///
/// Executors destroy what they do not call, now or later, and do not say why. A function object
/// that is destroyed within the hand-over was not taken, because memory is short or the executor is
/// gone: it says so here, and leaves `subject` with the one who hands it over. Destroyed at any
/// other time, it was dropped with its executor.
struct hand_over {
  explicit hand_over(const void* what) noexcept
      : subject(what), outer(this_thread_state().handing_over) {
    this_thread_state().handing_over = this;
  }
  ~hand_over() { this_thread_state().handing_over = outer; }
  hand_over(const hand_over&) = delete;
  hand_over& operator=(const hand_over&) = delete;

  /// For the destructor of the function object. True: it leaves `what` alone.
  static bool fails(const void* what) noexcept {
    hand_over* const current = this_thread_state().handing_over;
    if (!current || current->subject != what) return false;
    current->failed = true;
    return true;
  }

  const void* const subject;
  hand_over* const outer;
  bool failed = false;
};

}  // namespace bothworlds::detail
