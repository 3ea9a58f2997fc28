// SPDX-License-Identifier: BSL-1.0
#include "context_state.hpp"

#include "chain.hpp"
#include "task_core.hpp"
#include "thread_state.hpp"

#include <boost/asio/this_coro.hpp>

#include <memory>
#include <new>

namespace bothworlds::detail {
namespace {

// The context that the code runs in, carried like any other value: a call in it that asks for it
// again is in it already, and must not line up behind itself.
const context_variable& entered_context() {
  static const auto* const variable =
      new ref_ptr<context_variable>(new context_variable("the entered context"));
  return **variable;
}

using entered_value = stored_value<const context_state*>;

bool runs_in(const context_state& state, const context_snapshot* values) {
  const context_value* const entered = context_snapshot::find(values, entered_context().id());
  return entered && static_cast<const entered_value*>(entered)->get() == &state;
}

/// One coroutine's place in the line. Given up before its turn has come, it lets those behind wait
/// for those before.
class place_in_line {
public:
  explicit place_in_line(context_state& of) : mine_(new context_turn), before_(of.line_up(mine_)) {}
  ~place_in_line() {
    mine_->before = std::move(before_);
    mine_->over.set();
  }
  place_in_line(const place_in_line&) = delete;
  place_in_line& operator=(const place_in_line&) = delete;

  asio::awaitable<void> wait() {
    while (before_) {
      co_await before_->over.wait(before_, nullptr);
      before_ = ref_ptr<context_turn>(before_->before);
    }
  }

private:
  const ref_ptr<context_turn> mine_;
  ref_ptr<context_turn> before_;  // null: it is this one's turn
};

}  // namespace

void intrusive_ptr_add_ref(const context_state* state) noexcept {
  intrusive_ptr_add_ref(static_cast<const ref_counted*>(state));
}
void intrusive_ptr_release(const context_state* state) noexcept {
  intrusive_ptr_release(static_cast<const ref_counted*>(state));
}

ref_ptr<context_state> capture_context() {
  context_snapshot::pointer values = current_snapshot();
  if (context_snapshot::find(values.get(), entered_context().id()))
    values = context_snapshot::with(values.get(), entered_context(), nullptr);
  return ref_ptr<context_state>(new context_state(std::move(values)));
}

asio::awaitable<void> run_in_context(ref_ptr<async_call> call, ref_ptr<context_state> in) {
  call->awaited();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  const ref_ptr<chain_node>* const node = find_node(executor);
  if (node && runs_in(*in, (*node)->values().current())) {
    co_await run_within(std::move(call), std::chrono::steady_clock::duration::max());
    co_return;
  }
  place_in_line place(*in);
  co_await place.wait();
  const ref_ptr<const context_value> entered(
      new entered_value(ref_ptr<const context_variable>(&entered_context()), in.get()));
  const auto inner = make_counted<task_core>(call, nullptr, task_core::role::member);
  asio::awaitable<void> ended = end_of(inner);
  inner->start(executor, context_snapshot::with(in->share().get(), entered_context(), entered),
               node ? (*node)->tasks(call->where()) : nullptr);
  co_await std::move(ended);
  in->keep(call->take_values().share());
}

struct context_copy::scope {
  explicit scope(const context_state& original) noexcept : installed(&cell) {
    cell.begin(original.share());
  }

  value_cell cell;
  const cell_scope installed;
};

context_copy::context_copy(const context_state& original) noexcept {
  static_assert(sizeof(scope) <= sizeof storage_);
  new (storage_) scope(original);
}

context_copy::~context_copy() { std::destroy_at(std::launder(reinterpret_cast<scope*>(storage_))); }

}  // namespace bothworlds::detail
