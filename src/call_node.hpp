// SPDX-License-Identifier: BSL-1.0
//
// The nodes on which calls run, one after another.
#pragma once

#include "chain.hpp"
#include "task_core.hpp"

#include <bothworlds/detail/asio_internals.hpp>

#include <memory>

namespace bothworlds::detail {

class call_node : public chain_node {
public:
  /// On one of our loops. `memory`: what its coroutines are made of is recycled for this node alone,
  /// so that nested calls, each with a node, need nothing from the heap.
  explicit call_node(ref_ptr<loop> own, std::unique_ptr<loop_memory> memory = nullptr) noexcept;

  loop_memory* memory() const noexcept final { return memory_.get(); }
  const chain_place& place() const noexcept final { return place_; }
  ref_ptr<const shared_place> place_of_spawned() final;
  ref_ptr<task_scope> tasks(std::source_location where) final;

  /// A call begins, with its caller's values.
  /// `tasks` is where its tasks belong; null: nowhere, unless it `hosts_tasks`.
  void enter(chain_place place, value_cell&& values, ref_ptr<task_scope> tasks,
             bool hosts_tasks) noexcept {
    place_ = std::move(place);
    begin(std::move(values), std::move(tasks), hosts_tasks);
  }
  /// The same for a call below no other, for which `thread` waits. A resident's calls are mostly of
  /// this kind, one after another, of one thread: their place is the same.
  void enter_root(lane& thread, value_cell&& values, bool hosts_tasks) {
    if (!place_.is_bare_root() || place_.blocked.get() != &thread) {
      place_ = {};
      place_.is_blocked_by(thread, true);
    }
    place_.epoch = thread.epoch();
    begin(std::move(values), nullptr, hosts_tasks);
  }
  /// It has ended; gives its values, for value_cell::take().
  value_cell&& leave() noexcept {
    tasks_.reset();
    hosts_tasks_ = false;
    place_of_spawned_.reset();
    return close();
  }
  /// Lets go of the nodes above. Only while nobody but the resident holds this one.
  void forget_place() noexcept { place_ = {}; }
  /// Those that the call has made and waits for; null: it has made none, or waits for none.
  task_scope* hosted_tasks() const noexcept { return hosts_tasks_ ? tasks_.get() : nullptr; }

protected:
  ~call_node() override;

private:
  void begin(value_cell&& values, ref_ptr<task_scope> tasks, bool hosts_tasks) noexcept {
    tasks_ = std::move(tasks);
    hosts_tasks_ = hosts_tasks;
    open(std::move(values));
  }

  const std::unique_ptr<loop_memory> memory_;
  chain_place place_;
  ref_ptr<task_scope> tasks_;  // the executor; likewise the next
  bool hosts_tasks_ = false;   // the call waits for a scope that is set for it
  // The driver; kept for the next one. It leads to this very node, which lets go of it when its call
  // ends. Null: nothing has been spawned yet.
  ref_ptr<const shared_place> place_of_spawned_;
};

/// On somebody else's executor: there every call has a node of its own.
class foreign_node final : public call_node {
public:
  /// Inside context->with_context().
  foreign_node(const ref_ptr<foreign_context>& context, const asio::any_io_executor& inner);

private:
  ~foreign_node() override;

  const bound_executor* bound() const noexcept override { return &executor_; }

  const bound_executor executor_;
};

}  // namespace bothworlds::detail
