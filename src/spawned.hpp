// SPDX-License-Identifier: BSL-1.0
//
// A coroutine that spawn() has started on one of our loops: to Asio it is the one at the bottom of its
// stack, and it is the node of its chain, all in one block of memory.
//
// The thread that spawns it makes it, and pushes it to the loop; from then on all of it belongs to the
// loop's driver, but for what cancellation says. The queue owns a reference until it has begun, its
// frame one from then on, and whoever keeps its executor the others.
//
// However it ends, the handler is told once: by end(), or, where its frame is destroyed, by gone(), or,
// where the loop has ended before, by take_turn().
#pragma once

#include "chain.hpp"

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/loop_op.hpp>
#include <bothworlds/detail/spawned_work.hpp>
#include <bothworlds/detail/synthetic_coroutine.hpp>

#include <atomic>
#include <memory>
#include <optional>

namespace bothworlds::detail {

class spawned final : public chain_node,
                      private loop_op,
                      private synthetic_coroutine<bottom_promise, spawned> {
public:
  /// Below a coroutine of `above`, or code that has its executor. Any thread. Throws std::bad_alloc;
  /// then nothing was started.
  static void start(const ref_ptr<chain_node>& above, std::unique_ptr<spawned_work> work,
                    asio::cancellation_slot slot, std::source_location where);

  /// Once it has ended: reports what it has left behind on its loop, if that is still there.
  void tell_leftovers() const noexcept;

  /// For start().
  spawned(const ref_ptr<chain_node>& above, std::unique_ptr<spawned_work> work,
          std::source_location where);

  const chain_place& place() const noexcept override { return place_->place; }
  // No thread waits for it: what is below it hangs from the same threads.
  ref_ptr<const shared_place> place_of_spawned() override { return place_; }
  /// None: nobody would wait for them.
  ref_ptr<task_scope> tasks(std::source_location) override;

private:
  friend class loop;
  friend class synthetic_coroutine<bottom_promise, spawned>;

  /// Of a handler that has a slot.
  class cancellation;

  ~spawned() override;

  void take_turn(bool deliver) noexcept override;
  void begin() noexcept;
  // Steps of the coroutine: what it awaits has ended; it is back on its loop.
  void operation_ended() noexcept;
  void end() noexcept;
  /// The frame is gone.
  void gone() noexcept;
  void complete() noexcept;

  ref_ptr<chain_node> home_;            // where it was spawned; its work is under way there
  std::unique_ptr<spawned_work> work_;  // null: the handler has been told
  ref_ptr<cancellation> cancellation_;  // null: nobody can cancel it
  const ref_ptr<const shared_place> place_;
  const std::source_location where_;
};

}  // namespace bothworlds::detail
