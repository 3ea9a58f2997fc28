// SPDX-License-Identifier: BSL-1.0
//
// A call that no thread waits for: it runs below a coroutine, on that coroutine's loop.
#include "call_node.hpp"
#include "foreign_context.hpp"
#include "loop.hpp"
#include "serial_executor.hpp"

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/error.hpp>

namespace bothworlds::detail {

void async_call::start_child(const asio::any_io_executor& executor,
                             context_snapshot::pointer values, ref_ptr<task_scope> tasks,
                             std::chrono::steady_clock::time_point deadline, continuation ended) {
  const ref_ptr<chain_node>* const above = find_node(executor);
  values_.begin(std::move(values));
  tasks_ = std::move(tasks);
  deadline_ = deadline;
  if (above) made_by_ = *above;
  if (above && (*above)->own_loop()) {
    set_loop((*above)->own_loop());
    then_ = std::move(ended);
    intrusive_ptr_add_ref(this);
    // From here on it may have ended, and be gone.
    if (!loop_->push(start_op_)) started(false);
    return;
  }
  const ref_ptr<async_call> self(this);
  const auto context = foreign_context::of(asio::query(executor, asio::execution::context));
  const auto make_node = [&] {
    node_ = new foreign_node(context, above ? (*above)->inner() : serialised(executor));
  };
  const auto begin = [&] {
    node_->enter(take_place(), hand_values_on(), std::move(tasks_), false);
    then_ = std::move(ended);
    try {
      start_on(node_);
    } catch (...) {
      then_.reset();
      throw;
    }
  };
  if (context->with_context(make_node) && context->with_context(begin)) return;
  throw error(errc::loop_stopped, where_, "the loop that is to run this has been destroyed",
              "  fix  let the loop live until the calls that run on it have returned\n");
}

}  // namespace bothworlds::detail
