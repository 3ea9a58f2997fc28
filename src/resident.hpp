// SPDX-License-Identifier: BSL-1.0
//
// Coroutines that run the calls of async_to_sync.
//
// A resident lives on one of our loops and runs one call after another, so that a call costs no
// co_spawn. Where something still holds its node when the next call comes (a child task that has
// outlived its call), the resident is retired: a late child never meets the frame of another call.
// On foreign executors, and for nested contexts, every call gets a fresh coroutine.
#pragma once

#include "adapted_step.hpp"
#include "call_node.hpp"
#include "deadline_timer.hpp"

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/synthetic_coroutine.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <optional>
#include <utility>

namespace bothworlds::detail {

/// One run of a call: however its coroutine ends, by returning or because its frame is destroyed
/// with the loop, the call is finished.
///
/// Takes the coroutine's reference to the call. The node outlives it.
class coroutine_scope {
public:
  coroutine_scope(async_call& call, call_node& node) noexcept : call_(&call), node_(node) {}
  coroutine_scope(coroutine_scope&& other) noexcept
      : call_(std::exchange(other.call_, nullptr)),
        node_(other.node_),
        waits_for_tasks_(other.waits_for_tasks_) {}
  coroutine_scope& operator=(coroutine_scope&&) = delete;
  ~coroutine_scope() {
    if (call_) lost();
  }

  async_call& call() const noexcept { return *call_; }
  /// False: it was cancelled before it could start, or nobody waits for it any more; do not run it.
  bool begin(asio::cancellation_signal& signal) noexcept;
  /// The coroutine threw what is being handled.
  void failed() noexcept;
  /// The tasks that the call has made and that have not ended: the call ends after them. To be
  /// asked until it is null.
  ref_ptr<task_scope> tasks_to_wait_for() noexcept {
    return node_.hosted_tasks() ? unfinished_tasks() : nullptr;
  }
  /// std::bad_alloc, which is being handled, has ended the wait for them: that is the call's
  /// failure, they are cancelled, and the next wait is tried a little later.
  void cannot_wait(task_scope& tasks) noexcept;
  /// The coroutine's last step ends.
  void end_step() noexcept {
    if (adapters()) capture_thread_locals(node_.values());
  }
  /// The coroutine and its frame are gone: tells the caller, who may destroy the call.
  void finish() noexcept;
  /// The same is left to who calls this.
  async_call& release() noexcept { return *std::exchange(call_, nullptr); }

private:
  void lost() noexcept;
  ref_ptr<task_scope> unfinished_tasks() noexcept;

  async_call* call_;  // null: moved from, or finished
  call_node& node_;
  bool waits_for_tasks_ = false;
};

/// Driver of the loop only. To Asio it is the coroutine at the bottom of the stack of every call that it
/// runs: between two of them it is suspended, and belongs to its own frame.
class resident final : public ref_counted, private synthetic_coroutine<bottom_promise, resident> {
public:
  explicit resident(ref_ptr<loop> home);

  /// From now on it is idle.
  void launch();
  /// Nothing but the resident itself holds its node.
  bool reusable() const noexcept { return node_->owners() == idle_owners_; }
  /// Takes the coroutine's reference to the call. `thread` is the calling one. Throws what leaves a
  /// step of the user's coroutine: memory ran out in the operation that it began.
  void run(async_call& call, thread_state& thread);
  /// While it is idle, so that it does not make the resident of the call above look busy. False:
  /// not yet, something that it has left behind may need it.
  bool forget_place() noexcept;
  /// While it is idle: reports what its last call has left behind, once.
  void tell_leftovers() noexcept;
  /// Ends the coroutine. It goes on for that, and is not dropped: to destroy one that is suspended
  /// Asio takes memory, in a destructor.
  void retire() noexcept;

private:
  friend class loop;
  friend class synthetic_coroutine<bottom_promise, resident>;

  ~resident() override;

  // Steps of the coroutine: what the call awaits has ended; what comes after that has; it is retired.
  void operation_ended() noexcept;
  void settled() noexcept;
  void retired() noexcept;
  /// The frame is gone.
  void gone() noexcept;

  // Each is a part of one step; g++ takes them for too long to be that.
  [[gnu::always_inline]] inline bool begin(coroutine_thread& on) noexcept;
  [[gnu::always_inline]] inline bool end_operation() noexcept;
  [[gnu::always_inline]] inline void end_call() noexcept;
  void await_settlement() noexcept;
  asio::awaitable<void> settle();

  const ref_ptr<call_node> node_;
  asio::cancellation_signal signal_;
  std::optional<coroutine_thread> idle_;       // while it waits for a call; owns the resident
  std::optional<coroutine_scope> scope_;       // of the call that it runs; none: it is idle
  std::optional<deadline_timer> deadline_;     // that call's
  std::optional<asio::awaitable<void>> rest_;  // settle()
  resident* next_idle_ = nullptr;              // the loop
  std::uint32_t idle_owners_ = 0;
  std::source_location last_call_;
  bool told_ = false;
};

/// Spawns a coroutine that runs `call` on `node`. On `node`'s executor.
void run_on_fresh_coroutine(ref_ptr<async_call> call, ref_ptr<call_node> node,
                            asio::cancellation_signal& signal);

}  // namespace bothworlds::detail
