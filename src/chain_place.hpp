// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "lane.hpp"
#include "limiter_core.hpp"

#include <bothworlds/detail/ref_counted.hpp>

#include <cstdint>
#include <utility>

namespace bothworlds::detail {

class async_call;
class chain_node;

/// Which thread a call blocks, and which one is its chain's sync thread.
struct chain_place {
  ref_ptr<lane>
      blocked;  // the thread that waits for this call, or for the nearest one above that has
                // one; null: none (coroutines wait)
  ref_ptr<lane> sync_lane;  // where thread-sensitive calls go; null: the process's lane
  // The nearest frame, from here upwards, that blocks the thread of sync_lane: through it that lane
  // can be reached although it is busy. Null: there is none, or it is this very node (see
  // blocks_sync_lane).
  ref_ptr<chain_node> lane_frame;
  // The nearest call above this one for which a thread waits, and that had not ended when this began;
  // null: none.
  ref_ptr<chain_node> above;
  ref_ptr<limiter_token>
      token;  // the innermost one of the calls above, held or given back; null: none
  const async_call* call =
      nullptr;  // for which `blocked` waits, to be compared only; null: another, or not known
  std::uint32_t epoch = 0;     // of `blocked`
  bool is_waited_for = false;  // by `blocked`: this very call, not one above it
  bool sync_root = false;      // the chain started on a plain thread, which owns sync_lane
  bool in_context = false;     // inside with_thread_sensitive_context
  bool blocks_sync_lane = false;

  /// Of a call that a coroutine of `node` makes, or a callable that it awaits.
  static chain_place below(ref_ptr<chain_node> node);
  /// What `above` is, for what is below `node`.
  static ref_ptr<chain_node> nearest_waited_for(ref_ptr<chain_node> node) noexcept;
  /// A thread waits for `for_call`; it is the sync thread of its chain if no call is above this one.
  void is_blocked_by(lane& thread, bool root, const async_call* for_call = nullptr);
  /// Of a call below no other, which its loop's own thread waits for: see enter_root().
  bool is_bare_root() const noexcept { return is_waited_for && !call; }
  /// It leads to other nodes, and keeps them.
  bool hangs() const noexcept { return above || lane_frame || token; }
};

/// Where all stand that are spawned at one place. What it leads to may have ended meanwhile; who goes
/// up from there skips that.
struct shared_place final : ref_counted {
  explicit shared_place(chain_place of) noexcept : place(std::move(of)) {}

  const chain_place place;
};

}  // namespace bothworlds::detail
