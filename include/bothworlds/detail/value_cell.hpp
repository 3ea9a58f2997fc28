// SPDX-License-Identifier: BSL-1.0
//
// The values that follow a call.
//
// A snapshot is immutable and shared: handing it on is one pointer. A cell holds the snapshot of
// one line of execution: a plain thread's, that of a call (in its chain node), that of a callable
// (in its crossing). Code changes only the cell it runs in. A call begins with its caller's
// snapshot; when it has ended, what it changed goes into the caller's cell.
//
// A cell belongs to whoever runs in it: the thread, the callable's thread, the executor of the
// call. It passes from one to the other with what already orders them: the publication of a call,
// and its end.
#pragma once

#include <bothworlds/detail/context_value.hpp>

#include <cstdint>
#include <utility>
#include <vector>

namespace bothworlds::detail {

class BOTHWORLDS_API context_snapshot final : public ref_counted {
public:
  using pointer = ref_ptr<const context_snapshot>;  // null: no variable is set

  static const context_value* find(const context_snapshot* in, std::uint64_t id) noexcept;
  /// `base`, but for one variable; null unsets it. Values of destroyed variables are left out.
  static pointer with(const context_snapshot* base, const context_variable& variable,
                      ref_ptr<const context_value> value);
  /// `base`, but for what differs between `before` and `after`.
  static pointer merged(const context_snapshot* base, const context_snapshot* before,
                        const context_snapshot* after);

private:
  struct entry {
    std::uint64_t id;
    ref_ptr<const context_value> value;
  };

  ~context_snapshot() override;

  std::vector<entry>
      entries_;  // by id: variables are few, so a copy is cheap and a look-up one short search
};

class BOTHWORLDS_API value_cell {
public:
  /// An open cell has values, a closed one carries no context.
  explicit value_cell(bool open = false) noexcept : open_(open) {}
  value_cell(value_cell&& other) noexcept
      : values_(std::move(other.values_)),
        changed_(std::exchange(other.changed_, false)),
        open_(other.open_) {}
  value_cell& operator=(value_cell&&) = delete;

  bool is_open() const noexcept { return open_; }
  const context_snapshot* current() const noexcept {
    return changed_ ? change().now.get() : static_cast<const context_snapshot*>(values_.get());
  }
  context_snapshot::pointer share() const noexcept { return context_snapshot::pointer(current()); }

  /// Opens it with the values of whoever makes the call.
  void begin(context_snapshot::pointer values) noexcept {
    ref_ptr<const ref_counted> before(std::move(values));
    values_.swap(before);
    changed_ = false;
    open_ = true;
  }
  /// Takes over what `from` holds, open or closed, and leaves that closed, with what was here: a
  /// closed cell mostly holds nothing.
  void take(value_cell&& from) noexcept {
    values_.swap(from.values_);
    changed_ = std::exchange(from.changed_, changed_);
    open_ = std::exchange(from.open_, false);
  }
  /// Closes it; what it held is given to the caller. Late users see no context.
  value_cell end() noexcept {
    value_cell ended = std::move(*this);
    open_ = false;
    return ended;
  }
  /// Throws std::bad_alloc; then nothing has changed.
  void set(context_snapshot::pointer values);
  /// Takes in what a call, which began with values of this cell, has changed; the call's cell is of no
  /// use any more. O(1) unless somebody who shares this cell has changed it, too.
  void take_changes(value_cell&& ended_call) noexcept {
    if (ended_call.changed_ && open_) merge_changes(ended_call);
  }

private:
  /// Of one cell alone. Most cells are never changed: so they take one pointer.
  struct changed_values final : ref_counted {
    context_snapshot::pointer began_with;
    context_snapshot::pointer now;
  };

  changed_values& change() const noexcept {
    return const_cast<changed_values&>(static_cast<const changed_values&>(*values_));
  }
  void merge_changes(value_cell& ended_call) noexcept;
  void replace_by_those_of(value_cell& ended_call) noexcept;

  ref_ptr<const ref_counted> values_;  // where changed_ a changed_values, else a snapshot
  bool changed_ = false;
  bool open_;
};

}  // namespace bothworlds::detail
