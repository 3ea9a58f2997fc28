// SPDX-License-Identifier: BSL-1.0
//
// What happens to calls whose code has forked, in the child. It has the forking thread and no other;
// the loop and the pools that the code came from are the parent's. Their locks may be held for ever,
// and the descriptors that Asio waits with are shared with the parent: so nothing of them is run,
// woken, closed or destroyed there.
//
//   - a wait of the library's, in a coroutine of one of our loops: throws forked_child into it;
//   - such a coroutine waits for something else, or a callable returns: the calls that block further
//     down on this stack throw forked_child, out to the user's own code;
//   - on a thread of the library's own no such code is further down: the process ends, and says so.
#pragma once

#include <bothworlds/error.hpp>

#include <source_location>

namespace bothworlds::detail {

/// What a call throws that blocks this thread, and that code above it has brought into a child.
error call_of_parent(std::source_location where);

/// Ends the process, a forked child, at once: it has nothing to go on with. `where`: what has
/// forked; null: a coroutine, which one is not known.
[[noreturn]] void end_forked_child(const std::source_location* where) noexcept;

}  // namespace bothworlds::detail
