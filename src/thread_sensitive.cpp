// SPDX-License-Identifier: BSL-1.0
#include "call_node.hpp"
#include "context_values.hpp"
#include "foreign_context.hpp"
#include "loop.hpp"
#include "serial_executor.hpp"
#include "task_core.hpp"

#include <bothworlds/detail/suspension.hpp>
#include <bothworlds/thread_sensitive.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/deferred.hpp>

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
  /// Runs `call`, which has its own failure; throws where it could not be begun.
  asio::awaitable<void> run(ref_ptr<async_call> call) const;
  /// After its end: what it has changed is seen by the awaiting coroutine.
  void take_values(async_call& call) const noexcept {
    if (const ref_ptr<chain_node>* above = find_node(executor_))
      take_back((*above)->values(), call.values_.end());
  }

private:
  class wait;

  void make_foreign_node(const ref_ptr<chain_node>* above, const asio::any_io_executor& executor);

  const asio::any_io_executor
      executor_;  // of the awaiting coroutine, in whose frame this scope stands
  ref_ptr<lane> lane_;
  ref_ptr<call_node> node_;
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
    place.above = chain_place::nearest_waited_for(*above);
    place.token = outer.token;
  }
  lane_ = new lane(lane::kind::dedicated);
  place.sync_lane = lane_;
  place.in_context = true;
  if (above && (*above)->own_loop())
    node_ = new call_node((*above)->own_loop());
  else
    make_foreign_node(above, executor);
  value_cell values;
  values.begin(above ? hand_on((*above)->values()) : nullptr);
  node_->enter(std::move(place), std::move(values), above ? (*above)->tasks(where) : nullptr,
               false);
}

void sensitive_scope::make_foreign_node(const ref_ptr<chain_node>* above,
                                        const asio::any_io_executor& executor) {
  const auto context = foreign_context::of(asio::query(executor, asio::execution::context));
  context->with_context(
      [&] { node_ = new foreign_node(context, above ? (*above)->inner() : serialised(executor)); });
}

/// The awaiting coroutine, suspended until the call has ended. It has all the memory for that
/// before the call begins.
class sensitive_scope::wait final : public ref_counted, public resumes_handler<suspension> {
public:
  wait(ref_ptr<async_call> call, ref_ptr<call_node> inner) noexcept
      : call_(std::move(call)), inner_(std::move(inner)) {}

  template <class Handler>
  void start(Handler&& handler) noexcept {
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    suspend(continuation(std::forward<Handler>(handler)), slot);
  }
  void rethrow_failure() {
    if (failure_) std::rethrow_exception(std::move(failure_));
  }

private:
  ~wait() override = default;
  const ref_counted& counted() const noexcept override { return *this; }

  void begin(asio::cancellation_slot slot) override {
    if (slot.is_connected())
      slot.assign([call = call_](asio::cancellation_type type) { call->request_cancel(type); });
    call_->node_ = inner_;
    // Called by the last step of the inner coroutine.
    call_->then_ =
        continuation([self = ref_ptr<wait>(this)]() mutable { self.detach()->deliver(); });
    call_->start_on(inner_);
  }
  void begin_failed() noexcept override {
    failure_ = std::current_exception();
    call_->then_.reset();
    intrusive_ptr_add_ref(static_cast<const ref_counted*>(this));
    deliver();
  }
  void arrived(bool) noexcept override {}
  void orphaned() noexcept override { drop_coroutine(); }

  const ref_ptr<async_call> call_;
  const ref_ptr<call_node> inner_;
  std::exception_ptr failure_;
};

asio::awaitable<void> sensitive_scope::run(ref_ptr<async_call> call) const {
  const std::source_location where = call->where();
  const ref_ptr<wait> waiting(new wait(std::move(call), node_));
  waiting->prepare_resumption(executor_, where);
  const auto start = [&waiting](auto&& handler) noexcept {
    waiting->start(std::forward<decltype(handler)>(handler));
  };
  co_await asio::async_initiate<const asio::deferred_t&, void()>(start, asio::deferred);
  waiting->rethrow_failure();
}

asio::awaitable<void> run_in_sensitive_context(ref_ptr<async_call> call) {
  call->awaited();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  sensitive_scope scope(executor, call->where());
  if (!scope.needed()) {
    co_await call->run();
    co_return;
  }
  co_await scope.run(call);
  scope.take_values(*call);
}

}  // namespace bothworlds::detail
