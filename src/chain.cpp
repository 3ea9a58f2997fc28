// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"

#include "foreign_context.hpp"
#include "loop.hpp"
#include "thread_state.hpp"

#include <bothworlds/error.hpp>

namespace bothworlds::detail {

chain_node::chain_node(ref_ptr<loop> own, std::unique_ptr<loop_memory> memory)
    : loop_(std::move(own)), memory_(std::move(memory)) {}

chain_node::chain_node(const ref_ptr<foreign_context>& context, const asio::any_io_executor& inner)
    : inner_(std::make_unique<bound_executor>(context, inner)) {}

chain_node::~chain_node() = default;

asio::execution_context& chain_node::context() const noexcept {
  if (loop_) return loop_->context();
  return asio::query(inner(), asio::execution::context);
}

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

bool chain_node::reaches_sync_lane() const noexcept {
  const chain_node* frame = place_.blocks_sync_lane ? this : place_.lane_frame.get();
  while (frame && !frame->is_open()) frame = frame->place_.lane_frame.get();
  return frame;
}

void chain_node::submit_sensitive(work& item) const {
  lane& target = place_.sync_lane ? *place_.sync_lane : process_lane();
  if (!target.dedicated()) {
    if (target.push_nested(item)) return;
    throw error(
        errc::wrong_thread, item.where(),
        "the thread of this chain's thread-sensitive calls has left its outermost async_to_sync",
        "  why  the coroutine that makes this call has outlived the call that started it\n"
        "  fix  await it before that call returns\n");
  }
  // A context's lane has calls of one chain only; the process's lane has those of any.
  const bool same_chain = place_.in_context || reaches_sync_lane();
  if (!same_chain || !target.push_nested(item)) target.push_main(item);
}

bool chain_node::is_below(const lane& frame) const noexcept {
  for (const chain_node* call = this; call; call = call->place_.above.get())
    if (call->place_.is_waited_for && call->place_.blocked.get() == &frame && call->is_open())
      return true;
  return false;
}

lane* chain_node::helper() const noexcept { return is_open() ? place_.blocked.get() : nullptr; }

void chain_node::execute(continuation&& function, bool may_run_now) const {
  if (loop_) return loop_->execute(*this, std::move(function), may_run_now);
  struct in_chain {
    ref_ptr<const chain_node> node;
    continuation function;
    void operator()() {
      const node_scope scope(node.get());
      function();
    }
  };
  if (foreign()->gone()) return;  // the function goes with it
  (may_run_now ? inner_->may_run_now() : inner_->never_now())
      .execute(in_chain{ref_ptr<const chain_node>(this), std::move(function)});
}

const suspension* chain_node::sole_wait() const noexcept {
  // A resident counts for nothing; co_spawn keeps two for a fresh coroutine. Every other coroutine of the
  // chain, and every operation of Asio that it has under way, such as a timer, adds to it.
  const std::uint32_t of_the_call = loop_ ? 0 : 2;
  return awaited_ == 1 && tracked_.load(std::memory_order_acquire) == of_the_call ? latest_
                                                                                  : nullptr;
}

// Our own loops run for as long as somebody waits for them: there the count is for the wait-for
// graph only.
void chain_node::work_started() const noexcept {
  tracked_.fetch_add(1, std::memory_order_relaxed);
  if (inner_) foreign()->work_started();
}
void chain_node::work_finished() const noexcept {
  tracked_.fetch_sub(1, std::memory_order_release);
  if (inner_) foreign()->work_finished();
}

ref_ptr<chain_node> take_node(asio::any_io_executor& executor) noexcept {
  auto* const carrier = executor.target<chain_executor>();
  if (!carrier) return nullptr;
  return carrier->node()->own_loop() ? std::move(*carrier).take_node() : carrier->node();
}

const ref_ptr<chain_node>* find_node(const asio::any_io_executor& executor) noexcept {
  const auto* carrier = executor.target<chain_executor>();
  return carrier ? &carrier->node() : nullptr;
}

}  // namespace bothworlds::detail
