// SPDX-License-Identifier: BSL-1.0
//
// A random program: a tree of blocking code and coroutines, made from a seed alone.
//
// An edge of the tree is a call. Some edges are guarded: the call below may be cancelled. Where the
// cancellation comes at a point that the program itself chooses, the guard has a target: a node, at
// the end of a path of edges that are `on_path`, that says that it runs and then waits for its
// cancellation. So everything before it has run, and what happens after it follows from the rules
// of Asio and of the library. Guards without a target are races, and the oracle knows the set of
// their outcomes.
#pragma once

#include "random_program/outcome.hpp"
#include "support/loop_tools.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bothworlds::testing::random_program {

/// Where a program starts.
enum class root_kind {
  plain_thread,     ///< the thread of the test, again and again
  fresh_thread,     ///< a thread that ends with the program
  single_loop,      ///< an io_context run by this thread
  fresh_loop,       ///< an io_context run by a thread of its own
  strand,           ///< a strand of an io_context with two threads
  two_thread_loop,  ///< an io_context with two threads, without a strand
};

constexpr bool is_sync(root_kind root) { return root <= root_kind::fresh_thread; }

/// Where a blocking node runs.
enum class place_kind { pool, sensitive, executor, inline_in_parent };

enum class grouping { sequential, parallel_group, and_operator, tasks };

/// How a call may be cancelled. Coroutines: or_ to race; blocking code: stop_token and timeout.
enum class guard_kind { none, or_, and_, signal, race, stop_token, timeout };

/// What a target waits with.
enum class target_kind {
  none,
  coroutine,    ///< suspends
  stop_token,   ///< blocks until it is asked to stop; policy wait
  interruptor,  ///< blocks until its interruptor is called; policy interrupt
  abandon,  ///< blocks until it is asked to stop, and then throws operation_aborted; policy abandon
  left_behind,  ///< blocks until its guard is over; policy abandon
};

/// What a target does once it has been cancelled.
enum class answer { give_up, value, raise };

enum class result_kind { word, object, nothing, reference };
constexpr int result_kinds = 4;

struct node;

struct edge {
  std::unique_ptr<node> child;
  guard_kind guard = guard_kind::none;
  bool on_path = false;
  node* target = nullptr;       // guarded edges with a deterministic point of cancellation
  unsigned catches = 0;         // a bit for each ending
  int calls = 1;                // one after the other
  bool force_new_loop = false;  // of async_to_sync
  int race_steps = 0;           // how often the loop turns before the cancellation
  std::chrono::microseconds patience{0};
  std::optional<outcome> expected;  // race and timeout: by the oracle; none: not called
  bool ended_with_value = false;    // race and timeout, when run

  bool catches_it(outcome what) const {
    return (catches >> static_cast<unsigned>(what.how) & 1U) != 0;
  }
  bool races() const { return guard == guard_kind::race || guard == guard_kind::timeout; }
};

struct node {
  std::uint64_t id = 0;
  bool blocking = false;
  place_kind runs_on = place_kind::pool;
  bool takes_token = false;
  bool has_interruption_point = false;
  bool racing = false;  // below a race: may be cancelled anywhere
  result_kind result = result_kind::word;
  grouping group = grouping::sequential;
  bool opens_context = false;   // coroutines: works inside with_thread_sensitive_context
  bool context_is_new = false;  // and there was none that it could share
  std::optional<ending> throws;
  bool throws_first = false;  // before its children, not after them
  target_kind target = target_kind::none;
  answer then = answer::give_up;
  std::vector<std::unique_ptr<edge>> children;

  int expected_runs = 0;  // by the oracle
  std::atomic<int> runs{0};
  gate release;  // targets that block
  std::atomic<int> interruptions{0};
  std::function<void()> interruptor;
};

struct plan {
  std::uint64_t seed = 0;
  root_kind root = root_kind::plain_thread;
  unsigned workers = 1;
  unsigned worker_limit = 0;
  bool erased_strand = false;
  std::unique_ptr<node> top;
  int nodes = 0;
};

}  // namespace bothworlds::testing::random_program
