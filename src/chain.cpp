// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"

#include "foreign_context.hpp"
#include "lane.hpp"
#include "loop.hpp"
#include "thread_state.hpp"

#include <bothworlds/error.hpp>

namespace bothworlds::detail {

chain_node::chain_node(ref_ptr<loop> own) noexcept : loop_(std::move(own)) {}

chain_node::~chain_node() = default;

asio::execution_context& chain_node::context() const noexcept {
  if (loop_) return loop_->context();
  return asio::query(inner(), asio::execution::context);
}

bool chain_node::reaches_sync_lane() const noexcept {
  const chain_node* frame = place().blocks_sync_lane ? this : place().lane_frame.get();
  while (frame && !frame->is_open()) frame = frame->place().lane_frame.get();
  return frame;
}

void chain_node::submit_sensitive(work& item) const {
  const chain_place& from = place();
  lane& target = from.sync_lane ? *from.sync_lane : process_lane();
  if (!target.dedicated()) {
    if (target.push_nested(item)) return;
    throw error(
        errc::wrong_thread, item.where(),
        "the thread of this chain's thread-sensitive calls has left its outermost async_to_sync",
        "  why  the coroutine that makes this call has outlived the call that started it\n"
        "  fix  await it before that call returns\n");
  }
  // A context's lane has calls of one chain only; the process's lane has those of any.
  const bool same_chain = from.in_context || reaches_sync_lane();
  if (!same_chain || !target.push_nested(item)) target.push_main(item);
}

bool chain_node::is_below(const lane& frame) const noexcept {
  for (const chain_node* call = this; call; call = call->place().above.get()) {
    const chain_place& at = call->place();
    if (at.is_waited_for && at.blocked.get() == &frame && call->is_open()) return true;
  }
  return false;
}

lane* chain_node::helper() const noexcept { return is_open() ? place().blocked.get() : nullptr; }

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
  (may_run_now ? bound()->may_run_now() : bound()->never_now())
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
  if (!loop_) foreign()->work_started();
}
void chain_node::work_finished() const noexcept {
  tracked_.fetch_sub(1, std::memory_order_release);
  if (!loop_) foreign()->work_finished();
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
