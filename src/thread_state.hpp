// SPDX-License-Identifier: BSL-1.0
//
// What the library knows about the calling thread. Everything here is set by scopes that restore
// what was there before, and read through functions that are never inlined: a compiler may keep the
// address of a thread-local across a suspension point, and with it the wrong thread's value.
#pragma once

#include "adapted_step.hpp"
#include "context_values.hpp"
#include "process_mark.hpp"

#include <bothworlds/config.hpp>
#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

namespace bothworlds::detail {

class chain_node;
class crossing;
class lane;
class loop;
class pool_worker;
class thread_record;

struct thread_state {
  ~thread_state();

  ref_ptr<lane> own_lane;      // made at the first blocking call; null before
  ref_ptr<loop> home;          // the loop kept for this thread; likewise
  unsigned home_frames = 0;    // blocked calls of this thread that need `home` to keep turning
  unsigned help_depth = 0;     // offers being served on this stack
  unsigned interruptible = 0;  // callables on this stack that may be interrupted
  loop* driving = nullptr;     // the loop whose handlers this thread is running
  const chain_node* node = nullptr;   // the chain of the code that runs now
  value_cell own_values{true};        // of plain code on this thread
  value_cell* values = nullptr;       // of the call that runs now; null: see current_cell()
  const void* values_loop = nullptr;  // the innermost running loop when `values` was set
  class may_block_scope* blocking = nullptr;
  pool_worker* worker = nullptr;             // set on the threads of a pool
  ref_ptr<thread_record> record;             // made when it first sleeps in a bridge
  struct hand_over* handing_over = nullptr;  // the innermost one of this thread
  std::uint32_t fork_generation = 0;
};

/// The calling thread's state. In a forked child the state inherited from the parent is discarded
/// first.
BOTHWORLDS_NOINLINE thread_state& this_thread_state();

/// Bytes between the caller's frame and the end of this thread's stack; and of all of it.
struct stack_room {
  std::size_t left;
  std::size_t size;
};
BOTHWORLDS_NOINLINE stack_room room_on_stack() noexcept;

/// True once the main thread has run the destructors of its thread-local objects: those of static
/// objects come next.
bool process_is_ending() noexcept;

/// While it lives, the code on top of it may block this thread, unless a loop is entered above it.
class may_block_scope {
public:
  /// `call`: the crossing whose callable runs here; null keeps the surrounding one (a
  /// blocking_region).
  explicit may_block_scope(crossing* call)
      : may_block_scope(call, this_thread_state(), innermost_running_loop()) {}
  /// `thread` is the calling one, `loop` the innermost that it runs.
  may_block_scope(crossing* call, thread_state& thread, const void* loop);
  ~may_block_scope();
  may_block_scope(const may_block_scope&) = delete;
  may_block_scope& operator=(const may_block_scope&) = delete;

  /// The crossing whose callable runs here; null: none, or one of the parent process's, whose loop
  /// nobody runs.
  crossing* call() const noexcept { return process_.is_of_parent() ? nullptr : call_; }
  const void* loop_marker() const noexcept { return loop_marker_; }
  const may_block_scope* outer() const noexcept { return outer_; }

private:
  thread_state& thread_;
  may_block_scope* const outer_;
  crossing* const call_;
  const void* const loop_marker_;
  loop* const driving_;
  const chain_node* const node_;
  const process_mark process_;
};

/// While it lives, the code on top of it has the values of `cell`; null: carries no context.
class cell_scope {
public:
  explicit cell_scope(value_cell* cell) noexcept;
  /// `thread` is the calling one, `loop` the innermost that it runs.
  cell_scope(value_cell* cell, thread_state& thread, const void* loop) noexcept
      : thread_(thread),
        outer_(std::exchange(thread_.values, cell)),
        outer_loop_(std::exchange(thread_.values_loop, loop)) {
    if (!cell) return;
    if (const adapter_list* const all = adapters()) [[unlikely]]
      adapt(*all, *cell);
  }
  ~cell_scope() {
    if (step_) [[unlikely]]
      end_step();
    thread_.values = outer_;
    thread_.values_loop = outer_loop_;
  }
  cell_scope(const cell_scope&) = delete;
  cell_scope& operator=(const cell_scope&) = delete;

private:
  // Out of line, and so out of the way of those who have no adapters.
  BOTHWORLDS_NOINLINE void adapt(const adapter_list& all, value_cell& cell) noexcept;
  BOTHWORLDS_NOINLINE void end_step() noexcept;

  thread_state& thread_;
  value_cell* const outer_;
  const void* const outer_loop_;
  std::optional<adapted_step> step_;  // none: there are no adapters
};

/// While it lives, the code on top of it belongs to `node`, and has its values; null: to no chain.
class node_scope {
public:
  explicit node_scope(const chain_node* node, thread_state& thread = this_thread_state()) noexcept;
  ~node_scope();
  node_scope(const node_scope&) = delete;
  node_scope& operator=(const node_scope&) = delete;

private:
  node_scope(const chain_node* node, loop_memory* memory, thread_state& thread) noexcept;

  const running_loop_scope memory_;  // the node's, if it has any
  cell_scope values_;
  thread_state& thread_;
  const chain_node* const outer_;
};

}  // namespace bothworlds::detail
