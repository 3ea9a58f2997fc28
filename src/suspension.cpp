// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"
#include "foreign_context.hpp"
#include "loop.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"
#include "wait_for_memory.hpp"

#include <bothworlds/detail/suspension.hpp>
#include <bothworlds/error.hpp>

#include <utility>

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

/// Enters it, or, where it is dropped because the loop has ended, lets the coroutine go.
class suspension::entry_on_its_loop {
public:
  entry_on_its_loop(suspension& what, asio::cancellation_slot slot) noexcept
      : what_(&what), slot_(slot) {
    intrusive_ptr_add_ref(&what.counted());
  }
  entry_on_its_loop(entry_on_its_loop&& other) noexcept
      : what_(std::exchange(other.what_, nullptr)), slot_(other.slot_) {}
  ~entry_on_its_loop() {
    if (!what_) return;
    const ref_ptr<const ref_counted> kept(&what_->counted(), false);
    what_->orphaned();
  }
  void operator()() noexcept {
    const ref_ptr<const ref_counted> kept(&what_->counted(), false);
    std::exchange(what_, nullptr)->enter(slot_);
  }

private:
  suspension* what_;  // with a reference; null: moved from, or entered
  asio::cancellation_slot slot_;
};

void suspension::suspended(asio::cancellation_slot slot) noexcept {
  waits_ = true;
  loop* const own = awaiting_loop();
  // What resumes the coroutine, whose frame owns this, is this very loop, so not before this has
  // returned.
  if (own && own->turns_here()) return enter(slot);
  if (own) {
    // A coroutine may have hopped to another executor's thread: what belongs to its loop is done on
    // its loop.
    static_assert(continuation::fits<entry_on_its_loop>);
    continuation there(entry_on_its_loop(*this, slot));
    return with_memory([&] { own->execute(*node_, std::move(there), false); });
  }
  // The operation may end, and everybody else let go of this, before begin() has returned.
  const ref_ptr<const ref_counted> self(&counted());
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

void suspension::deliver(const work* ended) noexcept {
  if (on_foreign_) return ref_ptr<foreign_awaiter>(foreign_)->post(this);
  // The loop cannot go away before it is pushed: until then the node belongs to this reference.
  if (!loop_->push(*this, ended)) undeliverable();
}

// The coroutine is left alone: it goes, or has gone, in orphaned(), on another thread.
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
