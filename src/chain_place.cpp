// SPDX-License-Identifier: BSL-1.0
#include "chain_place.hpp"

#include "chain.hpp"

namespace bothworlds::detail {

chain_place chain_place::below(ref_ptr<chain_node> node) {
  const chain_place& outer = node->place();
  chain_place place;
  place.blocked = outer.blocked;
  place.epoch = outer.epoch;
  place.sync_lane = outer.sync_lane;
  place.sync_root = outer.sync_root;
  place.in_context = outer.in_context;
  place.token = outer.token;
  place.lane_frame = outer.blocks_sync_lane ? node : outer.lane_frame;
  while (place.lane_frame && !place.lane_frame->is_open()) {
    ref_ptr<chain_node> next = place.lane_frame->place().lane_frame;
    place.lane_frame = std::move(next);
  }
  place.above = nearest_waited_for(std::move(node));
  return place;
}

// A call for which no thread waits adds nothing to what is above it, and one that has ended neither:
// both are skipped, so that coroutines which spawn their successors do not grow a chain without end.
ref_ptr<chain_node> chain_place::nearest_waited_for(ref_ptr<chain_node> node) noexcept {
  while (node && !(node->place().is_waited_for && node->is_open())) {
    ref_ptr<chain_node> next = node->place().above;
    node = std::move(next);
  }
  return node;
}

void chain_place::is_blocked_by(lane& thread, bool root, const async_call* for_call) {
  blocked = &thread;
  is_waited_for = true;
  call = for_call;
  epoch = thread.epoch();
  if (root) {
    sync_lane = &thread;
    sync_root = true;
  }
  blocks_sync_lane = &thread == (sync_lane ? sync_lane.get() : find_process_lane());
}

}  // namespace bothworlds::detail
