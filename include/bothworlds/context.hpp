// SPDX-License-Identifier: BSL-1.0
//
// Values that follow a call: through both bridges and back, and into child tasks.
//
// A value set before a crossing is seen after it; what the far side changes is seen by the direct
// awaiter when the call returns, throws or is cancelled. A child task begins with its parent's
// values and leaks nothing back. A plain new thread, and a coroutine of a bare asio::co_spawn, see
// the initial values; in the latter set() is refused, because Asio gives nothing to tell that
// coroutine from its neighbours. (On an executor of a call, such a coroutine shares the values of
// that call for as long as the call lasts; bothworlds::spawn gives it its own.)
#pragma once

#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/detail/context_copy.hpp>
#include <bothworlds/detail/context_value.hpp>
#include <bothworlds/traits.hpp>

#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

/// A variable whose value belongs to a line of calls, not to a thread. Meant for namespace scope:
/// it must outlive the code that uses it. T is copied nowhere: a value, once set, is shared and
/// constant; its last owner, on whatever thread, destroys it.
///
/// Threads     any number at once; each line of calls has a value of its own.
/// Cost        get() is a short search; crossing costs the same for any number of variables that
/// are set.
template <class T>
class context_var {
public:
  /// What set() returns: the value that was there before, for reset().
  class token {
  public:
    token() = default;

  private:
    friend class context_var;
    detail::ref_ptr<const detail::context_variable> variable_;
    detail::ref_ptr<const detail::context_value> previous_;  // null: it was not set
  };

  /// Sets a variable and, when its block is left, sets it back. Leaving does not throw. Where the
  /// frame that it stands in is destroyed by code of another line of calls, that code's value stays
  /// as it is.
  class [[nodiscard]] scope {
  public:
    template <class U = T>
    scope(const context_var& variable, U&& value,
          std::source_location where = std::source_location::current())
        : set_(variable.variable_, variable.store(std::forward<U>(value)), where) {}

  private:
    detail::value_scope set_;
  };

  /// `name` is for messages. `initial` is what get() gives where nothing was set.
  explicit context_var(const char* name, T initial = {})
      : variable_(new detail::context_variable(name)), initial_(std::move(initial)) {}
  ~context_var() { variable_->retire(); }
  context_var(const context_var&) = delete;
  context_var& operator=(const context_var&) = delete;

  const char* name() const noexcept { return variable_->name(); }

  /// The value here. The reference is good until this code, or a call that it awaits, sets or
  /// resets the variable: copy what is to be kept longer.
  const T& get() const noexcept {
    const detail::context_value* const found = detail::current_value(*variable_);
    return found ? static_cast<const detail::stored_value<T>*>(found)->get() : initial_;
  }

  /// Throws misuse_error, no_context, in a coroutine or handler that carries no context; nothing is
  /// changed then.
  token set(T value, std::source_location where = std::source_location::current()) const {
    token made;
    made.previous_ = detail::exchange_value(*variable_, store(std::move(value)), where);
    made.variable_ = variable_;
    return made;
  }

  /// Back to what was there before the set() that returned `before`; in whatever call, on whatever
  /// thread. The token may be used again. Throws like set(), and misuse_error, invalid_options, for
  /// a token of another variable.
  void reset(const token& before,
             std::source_location where = std::source_location::current()) const {
    if (before.variable_ != variable_) detail::refuse_token(*variable_, where);
    detail::exchange_value(*variable_, before.previous_, where);
  }

private:
  template <class U>
  detail::ref_ptr<const detail::context_value> store(U&& value) const {
    return detail::ref_ptr<const detail::context_value>(
        new detail::stored_value<T>(variable_, std::forward<U>(value)));
  }

  const detail::ref_ptr<detail::context_variable> variable_;
  const T initial_;
};

namespace detail {
struct context_access;
}

/// A set of values, apart from any call. Copies of a context are the same context.
class context {
public:
  /// The values that are seen here, in a context of their own.
  static context current() { return context(); }

  /// Runs f() in a copy of this context: f and what it calls see its values, what they change is
  /// dropped in the end. Blocking f only, on this thread; returns what f returns.
  template <class F>
  auto run(F&& f) const -> std::invoke_result_t<F> {
    static_assert(
        !is_awaitable_v<std::invoke_result_t<F>>,
        "context::run: this function is async: write co_await with_context(context, function)");
    const detail::context_copy values(*state_);
    return std::invoke(std::forward<F>(f));
  }

  /// The value of `variable` in this context.
  template <class T>
  T get(const context_var<T>& variable) const {
    return run([&] { return variable.get(); });
  }

private:
  friend struct detail::context_access;
  context() : state_(detail::capture_context()) {}

  detail::ref_ptr<detail::context_state> state_;
};

namespace detail {

struct context_access {
  static ref_ptr<context_state> state_of(const context& of) { return of.state_; }
};

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class R>
asio::awaitable<R> await_in_context(ref_ptr<awaited_result<R>> call, ref_ptr<context_state> in) {
  co_await run_in_context(call, std::move(in));
  co_return call->take();
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace detail

/// Runs `work` in that very context: `co_await with_context(context, work())`. It sees the
/// context's values, and what it changes stays there; the awaiting coroutine's own values are not
/// touched.
///
/// Order       of several calls in one context one runs at a time, from its begin to its end, in
/// the order in which they
///             were awaited; the others wait, without blocking anything. A call that is made in the
///             context by what runs there, and awaited, does not wait.
/// Cancellation  while it waits for its turn, it ends; then it reaches `work`.
template <class A>
[[nodiscard("co_await it: nothing runs before")]] auto with_context(
    context in, A work, std::source_location where = std::source_location::current()) {
  return detail::await_in_context(detail::make_call(std::move(work), where),
                                  detail::context_access::state_of(in));
}

}  // namespace bothworlds
