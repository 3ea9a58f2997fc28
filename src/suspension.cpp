// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"
#include "foreign_context.hpp"
#include "loop.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"

#include <bothworlds/detail/suspension.hpp>
#include <bothworlds/error.hpp>

namespace bothworlds::detail {

suspension::suspension() noexcept = default;
suspension::~suspension() {
  if (on_foreign_) intrusive_ptr_release(foreign_);
}

// In a forked child the parent's loop may not be touched: at the fork its locks may have been held
// by threads that do not exist here.
void suspension::refuse_in_child(std::source_location where) {
  throw error(errc::forked_child, where,
              "a coroutine of the parent process's loop goes on in a forked child",
              "  fix  fork outside of coroutines, or begin a loop of the child's own there\n");
}

void suspension::prepare_resumption(const asio::any_io_executor& awaiting,
                                    std::source_location where) {
  if (const ref_ptr<chain_node>* node = find_node(awaiting)) node_ = *node;
  loop_ = node_ ? node_->own_loop().get() : nullptr;
  check_resumption(awaiting, where);
}

void suspension::prepare_resumption(asio::any_io_executor&& awaiting, std::source_location where) {
  node_ = take_node(awaiting);
  loop_ = node_ ? node_->own_loop().get() : nullptr;
  if (!loop_) return prepare_resumption(std::as_const(awaiting), where);
  check_resumption(awaiting, where);
}

void suspension::check_resumption(const asio::any_io_executor& awaiting,
                                  std::source_location where) {
  const loop* const own = awaiting_loop();
  if (own && own->is_of_parent_process()) refuse_in_child(where);
  if (own) return;
  foreign_ = make_counted<foreign_awaiter>(awaiting, where).detach();
  on_foreign_ = true;
}

void suspension::suspended(asio::cancellation_slot slot) noexcept {
  waits_ = true;
  loop* const own = awaiting_loop();
  // What resumes the coroutine, whose frame owns this, is this very loop, so not before this has
  // returned.
  if (own && own->turns_here()) return enter(slot);
  // The operation may end, and everybody else let go of this, before begin() has returned.
  const ref_ptr<const ref_counted> self(&counted());
  try {
    // A coroutine may have hopped to another executor's thread: what belongs to its loop is done on
    // its loop.
    if (own) return own->execute(*node_, continuation([self, this, slot] { enter(slot); }), false);
  } catch (...) {
    return begin_failed();
  }
  enter(slot);
}

void suspension::enter(asio::cancellation_slot slot) noexcept {
  if (loop* own = awaiting_loop())
    own->track(*this);
  else
    foreign_->context()->track(*this);
  try {
    begin(slot);
  } catch (...) {
    begin_failed();
  }
}

void suspension::deliver() noexcept {
  if (on_foreign_) return ref_ptr<foreign_awaiter>(foreign_)->post(this);
  // The loop cannot go away before it is pushed: until then the node belongs to this reference.
  if (!loop_->push(*this)) undeliverable();
}

// The continuation is not touched: it goes, or has gone, in orphaned(), on another thread.
void suspension::undeliverable() noexcept {
  const ref_ptr<const ref_counted> self(&counted(), false);
  arrived(false);
}

void suspension::arrive(bool resumes) {
  ref_ptr<const ref_counted> self(&counted(), false);
  // A foreign context has let go of it already.
  if (!on_foreign_) loop_->untrack(*this);
  arrived(resumes);
  continuation resume = take_resumption();
  // Held while the coroutine runs, which may end, and everything of its chain with it.
  const ref_ptr<chain_node> node =
      resumes && !on_foreign_ && !keeps_node_ ? std::move(node_) : node_;
  // Let go first: the coroutine may run to its end in there, and look who still holds its chain.
  self.reset();
  if (!resumes) return;
  const node_scope scope(node.get());
  resume();
}

// Coroutines report through other ways, so what comes here is memory that ran out in Asio between
// two of them.
void suspension::take_turn(bool resumes) noexcept {
  loop* const own = awaiting_loop();  // it runs this
  try {
    arrive(resumes);
  } catch (...) {
    report_unhandled("a handler on a loop of async_to_sync");
  }
  if (resumes && own) own->resumption_over();
}

void suspension::drop_coroutine() noexcept { const continuation dropped = take_resumption(); }

}  // namespace bothworlds::detail
