// SPDX-License-Identifier: BSL-1.0
//
// Who looks for deadlocks and stalls, and when.
//
// A new wait that somebody may have to end arms the watch: from then on a thread of the library
// looks a few times a second. It goes on while calls stand in queues that do not move, and stops
// looking two seconds after the last new wait where they do not, so that a process in which nothing
// happens makes no wake-ups. What it finds twice in a row it acts on.
#pragma once

namespace bothworlds::detail {

/// A wait has begun that could close a cycle. Any thread, under no lock; one load where the watch
/// is on already.
void watch_waits() noexcept;

}  // namespace bothworlds::detail
