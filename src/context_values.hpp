// SPDX-License-Identifier: BSL-1.0
//
// Whose values the code that runs now sees and sets.
#pragma once

#include <bothworlds/detail/value_cell.hpp>

namespace bothworlds::detail {

/// The cell of the code that runs now; null: nothing carries values here. Out of line, as all that is of a thread.
BOTHWORLDS_NOINLINE value_cell* current_cell() noexcept;
/// Its values, to be handed on.
context_snapshot::pointer current_snapshot() noexcept;

}  // namespace bothworlds::detail
