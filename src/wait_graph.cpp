// SPDX-License-Identifier: BSL-1.0
#include "wait_graph.hpp"

#include "call_node.hpp"
#include "describe.hpp"
#include "foreign_context.hpp"
#include "lane.hpp"
#include "limiter_core.hpp"
#include "loop.hpp"
#include "thread_record.hpp"
#include "thread_state.hpp"
#include "worker_pool_core.hpp"

#include <boost/asio/execution_context.hpp>

#include <algorithm>
#include <deque>
#include <utility>

namespace bothworlds::detail {
namespace {

std::string title_of(const thread_record& thread) {
  return "thread '" + thread.name() + "' (" + std::to_string(thread.kernel_id()) + ")";
}

}  // namespace

wait_graph::wait_graph() {
  const frozen_threads frozen;
  frozen_ = &frozen;
  find_running();
  for (const thread_record* thread : frozen.asleep())
    if (thread->waits_for()) add_thread(thread->state());
  frozen_ = nullptr;
  settle();
}

// The calls whose callables are on the stacks of threads that sleep.
void wait_graph::find_running() {
  for (const thread_record* thread : frozen_->asleep())
    for (const may_block_scope* scope = thread->state()->blocking; scope; scope = scope->outer())
      if (const crossing* const call = scope->call()) {
        running_.emplace(call, thread->state());
        if (const limiter_token* const token = call->token()) using_.emplace(token, call);
      }
}

std::size_t wait_graph::add(kind what, const void* identity, std::string title) {
  node fresh{};
  fresh.what = what;
  fresh.identity = identity;
  fresh.title = std::move(title);
  nodes_.push_back(std::move(fresh));
  known_.emplace(identity, nodes_.size() - 1);
  return nodes_.size() - 1;
}

std::size_t wait_graph::add_thread(const thread_state* state) {
  if (const auto found = known_.find(state); found != known_.end()) return found->second;
  const thread_record* const thread = frozen_->find(state);
  if (!thread) {
    const std::size_t id = add(kind::thread, state, "a thread that is running");
    nodes_[id].alive = true;
    return id;
  }
  const std::size_t id = add(kind::thread, state, title_of(*thread));
  nodes_[id].kernel_id = thread->kernel_id();
  if (!thread->waits_for()) {
    nodes_[id].alive = true;  // it turns a loop for others
    return id;
  }
  const std::size_t call = add_call(*thread->waits_for());
  nodes_[id].any_of = {call};
  return id;
}

std::size_t wait_graph::add_call(const async_call& call) {
  const std::size_t id =
      add(kind::blocked_call, &call, describe_call("async_to_sync", call.name(), call.where()));
  const bool begun = call.start_.load(std::memory_order_acquire) != async_call::start::open;
  nodes_[id].where = call.where();
  nodes_[id].since = call.asleep_since_;
  if (!begun) nodes_[id].unbegun = const_cast<async_call*>(&call);
  const bool bounded =
      call.may_be_stopped_ || call.patience_ != std::chrono::steady_clock::time_point::max();
  // It has ended, and what it ran on may be gone.
  if (!call.pending()) {
    nodes_[id].alive = true;
    return id;
  }
  nodes_[id].alive = bounded;

  // A loop of ours whose thread sleeps somewhere else runs nothing; one whose thread sleeps in it
  // is only waiting.
  std::size_t stuck_loop = none;
  bool stands_still = true;
  if (call.loop_) {
    const thread_state* const turned_by = call.loop_->turned_by();
    const thread_record* const driver = turned_by ? frozen_->find(turned_by) : nullptr;
    stands_still = driver != nullptr;
    if (driver && driver->serves() != call.loop_) stuck_loop = add_loop(*call.loop_, turned_by);
  }
  const ref_ptr<crossing> awaited = begun && stands_still ? sole_wait_of(call) : nullptr;
  if (awaited) {
    const std::size_t target = add_crossing(awaited);
    nodes_[id].any_of = {target};
    nodes_[id].all_of = stuck_loop;
  } else if (stuck_loop != none) {
    nodes_[id].any_of = {stuck_loop};
  } else {
    nodes_[id].alive = true;
  }
  return id;
}

ref_ptr<crossing> wait_graph::sole_wait_of(const async_call& call) const {
  ref_ptr<crossing> found;
  const auto look = [&](const chain_node& chain) {
    const suspension* const wait = chain.sole_wait();
    if (wait) found = const_cast<crossing*>(wait->as_crossing());
  };
  if (const chain_node* const chain = call.runs_on_.load(std::memory_order_acquire); !chain) {
    return nullptr;
  } else if (call.loop_) {
    look(*chain);  // its loop stands still
  } else {
    // The blocked call owns its node; what is in flight on a foreign loop is guarded by that loop's
    // mutex.
    call.node_->foreign()->with_context([&] { look(*call.node_); });
  }
  return found;
}

std::size_t wait_graph::add_loop(const loop& subject, const thread_state* turned_by) {
  if (const auto found = known_.find(&subject); found != known_.end()) return found->second;
  const std::size_t id = add(kind::loop, &subject, "a loop of async_to_sync");
  const std::size_t thread = add_thread(turned_by);
  nodes_[id].any_of = {thread};
  return id;
}

std::size_t wait_graph::add_crossing(const ref_ptr<crossing>& call) {
  if (const auto found = known_.find(call.get()); found != known_.end()) return found->second;
  const std::size_t id =
      add(kind::crossing, call.get(), describe_call("sync_to_async", call->name(), call->where()));
  nodes_[id].where = call->where();
  nodes_[id].alive = call->phase_.load(std::memory_order_acquire) != crossing::phase::pending;
  std::size_t next = none;
  if (const auto on = running_.find(call.get()); on != running_.end()) {
    next = add_thread(on->second);
  } else if (!call->claimed_.load(std::memory_order_acquire)) {
    node waiting{};  // filled apart: the nodes may move meanwhile
    switch (call->queue_.load(std::memory_order_acquire)) {
      case crossing::queue::lane: next = add_lane(call->queue_lane(), *call, waiting); break;
      case crossing::queue::limiter:
        next = add_limiter(*call->extras()->limiter, *call, waiting);
        break;
      case crossing::queue::pool: next = add_pool(*call->pool_, *call, waiting); break;
      case crossing::queue::none:
      case crossing::queue::executor: break;
    }
    nodes_[id].since = waiting.since;
    if (next != none) nodes_[id].queued = call;
  }
  if (next == none)
    nodes_[id].alive = true;
  else
    nodes_[id].any_of = {next};
  return id;
}

// None: it does not stand in a queue that only one thread could serve.
std::size_t wait_graph::add_lane(lane& subject, crossing& queued, node& of) {
  const thread_state* server = nullptr;
  {
    const std::lock_guard lock(subject.mutex_);
    const auto stands_here = [&] {
      return std::any_of(subject.main_.begin(), subject.main_.end(),
                         [&](const work& item) { return &item == &queued; });
    };
    // Whoever sleeps in a bridge serves what is nested; only the rest has to wait for its turn.
    if (!subject.server_ || !stands_here()) return none;
    of.since = queued.queued_at_;
    server = subject.server_;
  }
  if (const auto found = known_.find(&subject); found != known_.end()) return found->second;
  const std::size_t id = add(kind::lane, &subject, subject.title());
  const std::size_t thread = add_thread(server);
  nodes_[id].any_of = {thread};
  return id;
}

std::size_t wait_graph::add_limiter(limiter_core& subject, crossing& queued, node& of) {
  std::vector<const limiter_token*> tokens;
  {
    const std::lock_guard lock(subject.mutex_);
    const auto own =
        std::find_if(subject.queue_.begin(), subject.queue_.end(),
                     [&](const limiter_token& token) { return token.waiting_ == &queued; });
    // Without a borrower there is nobody to wait for: only resize() helps, and may come.
    if (own == subject.queue_.end() || subject.borrowed_.empty()) return none;
    of.since = own->since_;
    for (const limiter_token& token : subject.borrowed_) tokens.push_back(&token);
  }
  if (const auto found = known_.find(&subject); found != known_.end()) return found->second;
  const std::size_t id = add(kind::limiter, &subject,
                             "a capacity limiter with " + std::to_string(tokens.size()) +
                                 (tokens.size() == 1 ? " token" : " tokens") + " taken");
  std::vector<std::size_t> holders;
  for (const limiter_token* token : tokens) {
    const auto user = using_.find(token);
    if (user == using_.end()) {
      nodes_[id].alive =
          true;  // held by something that gets on, or by a call on its way to a thread
      continue;
    }
    const std::size_t holder = add_crossing(const_cast<crossing*>(user->second));
    holders.push_back(holder);
  }
  nodes_[id].any_of = std::move(holders);
  return id;
}

std::size_t wait_graph::add_pool(worker_pool_core& subject, crossing& queued, node& of) {
  // A thread that is blocked higher up takes it. Asked of the chain: on a foreign loop the call's
  // own note of that may be written just now.
  if (const chain_node* const chain = queued.awaiting_node().get(); chain && chain->helper())
    return none;
  std::vector<const thread_state*> workers;
  {
    const std::lock_guard lock(subject.mutex_);
    std::size_t busy = 0;
    for (const pool_worker& worker : subject.all_) {
      busy += worker.running_ != nullptr;
      workers.push_back(worker.state_);
    }
    const bool full = !subject.may_grow() && busy == subject.threads_ && subject.searching_ == 0;
    if (!full || !queued.pool_hook_.is_linked()) return none;
    of.since = queued.queued_at_;
  }
  if (const auto found = known_.find(&subject); found != known_.end()) return found->second;
  const std::size_t id =
      add(kind::pool, &subject, "worker pool \"" + subject.options().name + "\"");
  std::vector<std::size_t> threads;
  for (const thread_state* worker : workers) threads.push_back(add_thread(worker));
  nodes_[id].any_of = std::move(threads);
  return id;
}

// What has no way to live keeps `alive` false: the least solution, reached from those that do.
void wait_graph::settle() {
  for (bool changed = true; changed;) {
    changed = false;
    for (node& subject : nodes_) {
      if (subject.alive) continue;
      const bool one = std::any_of(subject.any_of.begin(), subject.any_of.end(),
                                   [&](std::size_t other) { return nodes_[other].alive; });
      if (!one || (subject.all_of != none && !nodes_[subject.all_of].alive)) continue;
      subject.alive = changed = true;
    }
  }
}

std::vector<std::size_t> wait_graph::stuck_neighbours(std::size_t from) const {
  std::vector<std::size_t> stuck;
  for (const std::size_t other : nodes_[from].any_of)
    if (!nodes_[other].alive) stuck.push_back(other);
  if (const std::size_t other = nodes_[from].all_of; other != none && !nodes_[other].alive)
    stuck.push_back(other);
  return stuck;
}

std::vector<std::size_t> wait_graph::shortest_cycle(std::size_t through) const {
  std::vector<std::size_t> came_from(nodes_.size(), none);
  std::deque<std::size_t> next{through};
  while (!next.empty()) {
    const std::size_t at = next.front();
    next.pop_front();
    for (const std::size_t other : stuck_neighbours(at)) {
      if (other == through) {
        std::vector<std::size_t> members;
        for (std::size_t step = at; step != through; step = came_from[step])
          members.push_back(step);
        members.push_back(through);
        std::reverse(members.begin(), members.end());
        return members;
      }
      if (came_from[other] != none) continue;
      came_from[other] = at;
      next.push_back(other);
    }
  }
  return {};
}

std::vector<wait_graph::cycle> wait_graph::cycles() const {
  std::vector<cycle> found;
  std::vector<bool> covered(nodes_.size(), false);
  // Waits that can still be refused, the youngest first. Every cycle has one: somebody stands in a
  // queue, or has not been begun.
  std::vector<std::size_t> refusable;
  for (std::size_t id = 0; id < nodes_.size(); ++id)
    if (!nodes_[id].alive && (nodes_[id].queued || nodes_[id].unbegun)) refusable.push_back(id);
  std::sort(refusable.begin(), refusable.end(),
            [&](std::size_t a, std::size_t b) { return nodes_[a].since > nodes_[b].since; });
  for (const std::size_t youngest : refusable) {
    if (covered[youngest]) continue;
    cycle one{shortest_cycle(youngest), youngest, 0};
    if (one.members.empty()) continue;  // it hangs behind one
    const auto thread = std::find_if(one.members.begin(), one.members.end(), [&](std::size_t id) {
      return nodes_[id].what == kind::thread;
    });
    std::rotate(one.members.begin(), thread, one.members.end());
    for (const std::size_t member : one.members) {
      covered[member] = true;
      const auto address = reinterpret_cast<std::uintptr_t>(nodes_[member].identity);
      one.identity +=
          (address ^ static_cast<std::uint64_t>(nodes_[member].since)) * 0x9e3779b97f4a7c15ULL;
    }
    found.push_back(std::move(one));
  }
  return found;
}

wait_report_data wait_graph::report(const cycle* found) const {
  const std::int64_t now = coarse_now();
  wait_report_data data;
  for (const node& subject : nodes_) {
    reported_node reported;
    reported.what = subject.what;
    reported.title = subject.title;
    if (subject.since != 0) reported.age = age(subject.since, now);
    reported.kernel_id = subject.kernel_id;
    reported.stuck = !subject.alive;
    reported.waits_for = subject.any_of;
    if (subject.all_of != none) reported.waits_for.push_back(subject.all_of);
    data.nodes.push_back(std::move(reported));
  }
  if (!found) return data;
  data.cycle = found->members;
  for (const std::size_t member : found->members) data.nodes[member].in_cycle = true;
  return data;
}

bool wait_graph::refuse(std::size_t id, std::exception_ptr why) const noexcept {
  const node& chosen = nodes_[id];
  if (chosen.unbegun) return chosen.unbegun->refuse(std::move(why));
  if (!chosen.queued->try_claim()) return false;
  chosen.queued->withdraw();
  ref_ptr<crossing>(chosen.queued).detach()->refuse(std::move(why));
  return true;
}

}  // namespace bothworlds::detail
