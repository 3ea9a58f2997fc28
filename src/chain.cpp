// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"

#include "foreign_context.hpp"
#include "loop.hpp"
#include "thread_state.hpp"

#include <bothworlds/error.hpp>

namespace bothworlds::detail {

chain_node::chain_node(ref_ptr<loop> own) : loop_(std::move(own)) {}

chain_node::chain_node(ref_ptr<foreign_context> context, asio::any_io_executor inner)
    : foreign_(std::move(context)),
      inner_(std::move(inner)),
      inner_never_(asio::require(inner_, asio::execution::blocking.never)),
      scheduler_(foreign_->scheduler()) {}

chain_node::~chain_node() = default;

asio::execution_context& chain_node::context() const noexcept {
  if (loop_) return loop_->context();
  return asio::query(inner_, asio::execution::context);
}

void chain_node::enter(chain_place place) noexcept {
  place_ = std::move(place);
  open_.store(true, std::memory_order_release);
}

bool chain_node::reaches_sync_lane() const noexcept {
  const chain_node* frame = place_.blocks_sync_lane ? this : place_.lane_frame.get();
  return frame && frame->open_.load(std::memory_order_acquire);
}

void chain_node::submit_sensitive(work& item) const {
  lane& target = place_.sync_lane ? *place_.sync_lane : process_lane();
  if (!target.dedicated()) {
    if (target.push_nested(item)) return;
    throw error(errc::wrong_thread, item.where(),
                "the thread of this chain's thread-sensitive calls has left its outermost async_to_sync",
                "  why  the coroutine that makes this call has outlived the call that started it\n"
                "  fix  await it before that call returns\n");
  }
  // A context's lane has calls of one chain only; the process's lane has those of any.
  const bool same_chain = place_.in_context || reaches_sync_lane();
  if (!same_chain || !target.push_nested(item)) target.push_main(item);
}

lane* chain_node::helper() const noexcept {
  return open_.load(std::memory_order_acquire) ? place_.blocked.get() : nullptr;
}

void chain_node::execute(continuation function, bool may_run_now) const {
  if (loop_) return loop_->execute(ref_ptr<const chain_node>(this), std::move(function), may_run_now);
  struct in_chain {
    ref_ptr<const chain_node> node;
    continuation function;
    void operator()() {
      const node_scope scope(node.get());
      function();
    }
  };
  (may_run_now ? inner_ : inner_never_)
      .execute(in_chain{ref_ptr<const chain_node>(this), std::move(function)});
}

// Our own loops run for as long as somebody waits for them: there is nothing to count.
void chain_node::work_started() const noexcept {
  if (scheduler_) scheduler_.work_started();
}
void chain_node::work_finished() const noexcept {
  if (scheduler_) scheduler_.work_finished();
}

const ref_ptr<chain_node>* find_node(const asio::any_io_executor& executor) noexcept {
  const auto* carrier = executor.target<chain_executor>();
  return carrier ? &carrier->node() : nullptr;
}

}  // namespace bothworlds::detail
