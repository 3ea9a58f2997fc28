// SPDX-License-Identifier: BSL-1.0
//
// Who waits for whom, at one moment.
//
// Nothing is kept up to date for this: whoever looks freezes the threads that sleep in a bridge
// (thread_record.hpp) and follows, from each of them, the call it is blocked in, the crossing for
// which that call's coroutine waits, the queue in which that crossing stands, and the threads that
// could serve it. What is not asleep, not known, or has another way to end (a timeout, a stop
// token, a second operation under way) counts as alive; so does whatever needs only one of several
// things of which one is alive. What is left is stuck: nothing but an error can end those waits.
// Stuck waits that form a cycle are a deadlock; the others of them hang behind one.
//
// What is found may be outdated once the threads go on, except what is stuck, which only stuck
// threads could change.
#pragma once

#include "wait_report.hpp"

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/crossing.hpp>

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace bothworlds::detail {

class frozen_threads;
class thread_record;

class wait_graph {
public:
  /// A deadlock.
  struct cycle {
    std::vector<std::size_t> members;  // in the order of the waits, beginning with a thread
    std::size_t youngest;  // the wait that can still be refused without having had any effect
    /// The same for the same deadlock, whenever one looks.
    std::uint64_t identity;
  };

  /// Looks. Throws std::bad_alloc.
  wait_graph();
  wait_graph(const wait_graph&) = delete;
  wait_graph& operator=(const wait_graph&) = delete;

  std::vector<cycle> cycles() const;
  /// Everything that was seen, the cycle marked if there is one.
  wait_report_data report(const cycle* found) const;
  /// The place of a node's call.
  std::source_location where(std::size_t id) const noexcept { return nodes_[id].where; }
  /// Ends the wait of a node with `why`. False: it has ended or begun meanwhile.
  bool refuse(std::size_t id, std::exception_ptr why) const noexcept;

private:
  using kind = reported_node::kind;

  struct node {
    kind what;
    const void* identity;
    std::string title;
    std::source_location where;
    std::int64_t since = 0;  // of the coarse clock; 0: it does not wait, or not known
    int kernel_id = 0;
    bool alive = false;
    std::vector<std::size_t> any_of;  // alive if one of them is …
    std::size_t all_of = none;        // … and this one as well
    ref_ptr<crossing> queued;         // a crossing that nobody has begun
    ref_ptr<async_call> unbegun;      // a call whose coroutine has not begun
  };

  static constexpr std::size_t none = wait_report_data::no_node;

  std::size_t add(kind what, const void* identity, std::string title);
  std::size_t add_thread(const thread_state* state);
  std::size_t add_call(const async_call& call);
  std::size_t add_loop(const loop& subject, const thread_state* turned_by);
  std::size_t add_crossing(const ref_ptr<crossing>& call);
  std::size_t add_lane(lane& subject, crossing& queued, node& of);
  std::size_t add_limiter(limiter_core& subject, crossing& queued, node& of);
  std::size_t add_pool(worker_pool_core& subject, crossing& queued, node& of);
  ref_ptr<crossing> sole_wait_of(const async_call& call) const;
  void find_running();
  void settle();
  std::vector<std::size_t> stuck_neighbours(std::size_t from) const;
  std::vector<std::size_t> shortest_cycle(std::size_t through) const;

  const frozen_threads* frozen_ = nullptr;  // while looking
  std::unordered_map<const crossing*, const thread_state*>
      running_;  // on the stacks of frozen threads
  std::unordered_map<const limiter_token*, const crossing*> using_;  // who of these uses a token
  std::unordered_map<const void*, std::size_t> known_;
  std::vector<node> nodes_;
};

}  // namespace bothworlds::detail
