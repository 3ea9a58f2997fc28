// SPDX-License-Identifier: BSL-1.0
//
// Whose values the code that runs now sees and sets.
#pragma once

#include <bothworlds/detail/value_cell.hpp>

namespace bothworlds::detail {

struct thread_state;

/// The cell of the code that runs now; null: nothing carries values here. Out of line, as all that
/// is of a thread.
BOTHWORLDS_NOINLINE value_cell* current_cell() noexcept;
/// The same, for who knows the calling thread.
value_cell* current_cell(thread_state& thread) noexcept;
/// Its values, to be handed on.
context_snapshot::pointer current_snapshot() noexcept;

/// The values of `cell`, to be handed on to a call.
context_snapshot::pointer hand_on(value_cell& cell) noexcept;
/// What a call that began with them has changed.
void take_back(value_cell& cell, const value_cell& ended_call) noexcept;

}  // namespace bothworlds::detail
