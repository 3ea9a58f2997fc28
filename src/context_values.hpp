// SPDX-License-Identifier: BSL-1.0
//
// Whose values the code that runs now sees and sets.
#pragma once

#include "adapted_step.hpp"

#include <bothworlds/detail/value_cell.hpp>

#include <utility>

namespace bothworlds::detail {

struct thread_state;

/// The cell of the code that runs now; null: nothing carries values here. Out of line, as all that
/// is of a thread.
BOTHWORLDS_NOINLINE value_cell* current_cell() noexcept;
/// The same, for who knows the calling thread.
value_cell* current_cell(thread_state& thread) noexcept;
/// Its values, to be handed on.
context_snapshot::pointer current_snapshot() noexcept;

/// For adapters of thread_locals: what the step that runs in `cell`, if it does, has changed of the
/// thread's values is taken into it; and they are set to what it has taken in.
void capture_if_current(value_cell& cell) noexcept;
void install_if_current(value_cell& cell) noexcept;

/// The values of `cell`, to be handed on to a call.
inline context_snapshot::pointer hand_on(value_cell& cell) noexcept {
  if (adapters()) [[unlikely]]
    capture_if_current(cell);
  return cell.share();
}

/// What a call that began with them has changed.
inline void take_back(value_cell& cell, value_cell&& ended_call) noexcept {
  cell.take_changes(std::move(ended_call));
  if (adapters()) [[unlikely]]
    install_if_current(cell);
}

}  // namespace bothworlds::detail
