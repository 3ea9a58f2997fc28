// SPDX-License-Identifier: BSL-1.0
#include "context_values.hpp"

#include "names.hpp"
#include "thread_state.hpp"
#include "wait_for_memory.hpp"

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/error.hpp>

#include <algorithm>
#include <new>
#include <string>

namespace bothworlds::detail {
namespace {

std::uint64_t next_id() noexcept {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

context_variable::context_variable(const char* name) : name_(interned(name)), id_(next_id()) {}
context_variable::~context_variable() = default;
context_value::~context_value() = default;
context_snapshot::~context_snapshot() = default;

const context_value* context_snapshot::find(const context_snapshot* in, std::uint64_t id) noexcept {
  if (!in) return nullptr;
  const auto found = std::ranges::lower_bound(in->entries_, id, {}, &entry::id);
  return found != in->entries_.end() && found->id == id ? found->value.get() : nullptr;
}

context_snapshot::pointer context_snapshot::with(const context_snapshot* base,
                                                 const context_variable& variable,
                                                 ref_ptr<const context_value> value) {
  ref_ptr<context_snapshot> made(new context_snapshot);
  const std::uint64_t id = variable.id();
  made->entries_.reserve((base ? base->entries_.size() : 0) + 1);
  bool placed = false;
  const auto place = [&] {
    if (!placed && value) made->entries_.push_back({id, value});
    placed = true;
  };
  if (base)
    for (const entry& old : base->entries_) {
      if (old.id >= id) place();
      if (old.id != id && !old.value->variable().is_retired()) made->entries_.push_back(old);
    }
  place();
  if (made->entries_.empty()) return nullptr;
  return made;
}

context_snapshot::pointer context_snapshot::merged(const context_snapshot* base,
                                                   const context_snapshot* before,
                                                   const context_snapshot* after) {
  pointer result(base);
  if (after)
    for (const entry& now : after->entries_)
      if (find(before, now.id) != now.value.get())
        result = with(result.get(), now.value->variable(), now.value);
  if (before)
    for (const entry& then : before->entries_)
      if (!find(after, then.id)) result = with(result.get(), then.value->variable(), nullptr);
  return result;
}

void value_cell::set(context_snapshot::pointer values) {
  if (!changed_) {
    ref_ptr<changed_values> made = make_counted<changed_values>();
    made->began_with = share();
    values_ = std::move(made);
    changed_ = true;
  }
  change().now = std::move(values);
}

void value_cell::merge_changes(value_cell& ended_call) noexcept {
  changed_values& theirs = ended_call.change();
  if (current() != theirs.began_with.get()) try {
      theirs.now = context_snapshot::merged(current(), theirs.began_with.get(), theirs.now.get());
    } catch (const std::bad_alloc&) {
      // The later one wins, as it does for each variable that both have changed.
    }
  replace_by_those_of(ended_call);
}

// Takes nothing from the heap.
void value_cell::replace_by_those_of(value_cell& ended_call) noexcept {
  changed_values& theirs = ended_call.change();
  if (changed_) {
    change().now = std::move(theirs.now);
    return;
  }
  theirs.began_with = share();
  values_.swap(ended_call.values_);
  std::swap(changed_, ended_call.changed_);
}

BOTHWORLDS_NOINLINE value_cell* current_cell() noexcept {
  return current_cell(this_thread_state());
}

value_cell* current_cell(thread_state& thread) noexcept {
  const void* const loop = innermost_running_loop();
  if (value_cell* const values = thread.values) {
    // A loop that was entered above belongs to somebody else: its handlers are no part of this
    // call.
    return thread.values_loop == loop && values->is_open() ? values : nullptr;
  }
  // A worker's jobs have nothing to do with one another, and neither have the handlers of a loop.
  if (loop || thread.worker) return nullptr;
  return &thread.own_values;
}

context_snapshot::pointer current_snapshot() noexcept {
  value_cell* const cell = current_cell();
  if (!cell) return nullptr;
  capture_thread_locals(*cell);
  return cell->share();
}

// A coroutine that has hopped elsewhere does not run in its own cell.
void capture_if_current(value_cell& cell) noexcept {
  if (current_cell() == &cell) capture_thread_locals(cell);
}

void install_if_current(value_cell& cell) noexcept {
  if (current_cell() == &cell) install_thread_locals(cell);
}

const context_value* current_value(const context_variable& variable) noexcept {
  const value_cell* const cell = current_cell();
  return cell ? context_snapshot::find(cell->current(), variable.id()) : nullptr;
}

ref_ptr<const context_value> exchange_value(const context_variable& variable,
                                            ref_ptr<const context_value> value,
                                            std::source_location where) {
  value_cell* const cell = current_cell();
  if (!cell)
    throw misuse_error(errc::no_context, where,
                       std::string("context_var '") + variable.name() +
                           "' was set where nothing carries its value",
                       "  why  this is a coroutine of a bare asio::co_spawn, or a handler: "
                       "whatever else runs on this thread\n"
                       "       would see the value, and the coroutine might not\n"
                       "  fix  start the coroutine with bothworlds::spawn, or call it through run "
                       "or async_to_sync\n");
  ref_ptr<const context_value> previous(context_snapshot::find(cell->current(), variable.id()));
  if (previous != value)
    cell->set(context_snapshot::with(cell->current(), variable, std::move(value)));
  return previous;
}

void refuse_token(const context_variable& variable, std::source_location where) {
  throw misuse_error(
      errc::invalid_options, where,
      std::string("context_var '") + variable.name() +
          "' was given a token of another variable, or one that no set() has returned",
      "  fix  give reset() what set() of the same variable returned\n");
}

value_scope::value_scope(ref_ptr<const context_variable> variable,
                         ref_ptr<const context_value> value, std::source_location where)
    : variable_(std::move(variable)),
      previous_(exchange_value(*variable_, std::move(value), where)),
      set_in_(current_cell()) {}

value_scope::~value_scope() {
  while (current_cell() == set_in_) {
    try {
      exchange_value(*variable_, previous_, std::source_location::current());
      return;
    } catch (const std::bad_alloc&) {
      wait_for_memory();
    }
  }
}

}  // namespace bothworlds::detail
