// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"
#include "context_values.hpp"
#include "foreign_context.hpp"
#include "loop.hpp"
#include "task_core.hpp"

#include <bothworlds/thread_sensitive.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>

namespace bothworlds::detail {

/// One context: the node its coroutines run on, and the lane that goes with it.
class sensitive_scope {
public:
  sensitive_scope(const asio::any_io_executor& executor, std::source_location where);
  ~sensitive_scope() {
    if (lane_) lane_->retire();
  }
  sensitive_scope(const sensitive_scope&) = delete;
  sensitive_scope& operator=(const sensitive_scope&) = delete;

  /// False: a sync thread is there already, nothing is to change.
  bool needed() const noexcept { return lane_ != nullptr; }
  void start(async_call& call, continuation then, asio::cancellation_slot slot);
  /// After its end: what it has changed is seen by the awaiting coroutine.
  void take_values(async_call& call) const noexcept {
    if (const ref_ptr<chain_node>* above = find_node(executor_))
      take_back((*above)->values(), call.values_.end());
  }

private:
  void make_foreign_node(const ref_ptr<chain_node>* above, const asio::any_io_executor& executor);
  void resume_outer();

  const asio::any_io_executor
      executor_;  // of the awaiting coroutine, in whose frame this scope stands
  continuation then_;
  ref_ptr<lane> lane_;
  ref_ptr<chain_node> node_;
};

sensitive_scope::sensitive_scope(const asio::any_io_executor& executor, std::source_location where)
    : executor_(executor) {
  chain_place place;
  const ref_ptr<chain_node>* const above = find_node(executor);
  if (above) {
    const chain_place& outer = (*above)->place();
    if (outer.sync_root || outer.in_context) return;
    place.blocked = outer.blocked;
    place.epoch = outer.epoch;
    place.above = outer.above;
    place.token = outer.token;
  }
  lane_ = new lane(lane::kind::dedicated);
  place.sync_lane = lane_;
  place.in_context = true;
  if (above && (*above)->own_loop())
    node_ = new chain_node((*above)->own_loop());
  else
    make_foreign_node(above, executor);
  node_->enter(std::move(place), above ? hand_on((*above)->values()) : nullptr,
               above ? tasks_of(**above, where) : nullptr, false);
}

void sensitive_scope::make_foreign_node(const ref_ptr<chain_node>* above,
                                        const asio::any_io_executor& executor) {
  const auto context = foreign_context::of(asio::query(executor, asio::execution::context));
  context->with_context(
      [&] { node_ = new chain_node(context, above ? (*above)->inner() : serialised(executor)); });
}

void sensitive_scope::start(async_call& call, continuation then, asio::cancellation_slot slot) {
  call.node_ = node_;
  then_ = std::move(then);
  call.then_ = continuation([this] { resume_outer(); });
  if (slot.is_connected())
    slot.assign([call = ref_ptr<async_call>(&call)](asio::cancellation_type type) {
      call->request_cancel(type);
    });
  call.start_on(node_);
}

// Called by the inner coroutine's last step. The outer one goes on where it was: on its own
// executor.
void sensitive_scope::resume_outer() {
  asio::post(executor_, [then = std::move(then_)]() mutable { then(); });
}

namespace {

struct start_in_scope {
  template <class Handler>
  void operator()(Handler&& handler, sensitive_scope* scope, async_call* call) const {
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    scope->start(*call, continuation(std::forward<Handler>(handler)), slot);
  }
};

}  // namespace

asio::awaitable<void> run_in_sensitive_context(ref_ptr<async_call> call) {
  call->awaited();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  sensitive_scope scope(executor, call->where());
  if (!scope.needed()) {
    co_await call->run();
    co_return;
  }
  co_await asio::async_initiate<const asio::deferred_t&, void()>(start_in_scope(), asio::deferred,
                                                                 &scope, call.get());
  scope.take_values(*call);
}

}  // namespace bothworlds::detail
