// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/context_value.hpp>

#include <functional>
#include <utility>

namespace bothworlds {

namespace detail {

/// A thread_local that follows calls, without its type.
class BOTHWORLDS_API adapted_thread_local : public ref_counted {
public:
  explicit adapted_thread_local(const char* name) : variable_(new context_variable(name)) {}

  const ref_ptr<context_variable>& variable() const noexcept { return variable_; }
  /// The calling thread's value, null for "none"; `known` itself where it is the same.
  virtual ref_ptr<const context_value> get(const context_value* known) const = 0;
  virtual void set(const context_value* value) const = 0;

protected:
  ~adapted_thread_local() override;

private:
  const ref_ptr<context_variable> variable_;
};

BOTHWORLDS_API void add_adapter(ref_ptr<adapted_thread_local> adapter);
BOTHWORLDS_API void remove_adapter(const adapted_thread_local& adapter) noexcept;

}  // namespace detail

/// Lets a thread_local of somebody else (a tracer's current span, a logger's prefix) follow calls
/// as a context_var does.
///
/// Before each step of a call, a coroutine's up to its next wait or a blocking callable's, the
/// call's value is set on the thread that runs it, or `none` if it has none; after it, what is
/// there then belongs to the call, and the thread gets back what it had, be it `none`. Crossings,
/// tasks and plain threads are as for context_var.
///
/// T           copied, and compared with ==, at each step.
/// get, set    read and write the calling thread's value. Called on any thread that runs a call;
/// they, and copying T, must
///             neither throw nor block.
/// Life        make it before the calls that it is for, and keep it until they have ended; at
/// namespace scope, say. All
///             calls of the process pay for it at each step.
template <class T>
class thread_local_adapter {
public:
  thread_local_adapter(const char* name, std::function<T()> get, std::function<void(const T&)> set,
                       T none = {})
      : adapted_(new adapted(name, std::move(get), std::move(set), std::move(none))) {
    detail::add_adapter(adapted_);
  }
  ~thread_local_adapter() { detail::remove_adapter(*adapted_); }
  thread_local_adapter(const thread_local_adapter&) = delete;
  thread_local_adapter& operator=(const thread_local_adapter&) = delete;

private:
  class adapted final : public detail::adapted_thread_local {
  public:
    adapted(const char* name, std::function<T()> get, std::function<void(const T&)> set, T none)
        : adapted_thread_local(name),
          get_(std::move(get)),
          set_(std::move(set)),
          none_(std::move(none)) {}

    detail::ref_ptr<const detail::context_value> get(
        const detail::context_value* known) const override {
      T now = get_();
      if (now == value_of(known)) return detail::ref_ptr<const detail::context_value>(known);
      if (now == none_) return nullptr;
      return detail::ref_ptr<const detail::context_value>(
          new detail::stored_value<T>(variable(), std::move(now)));
    }
    void set(const detail::context_value* value) const override { set_(value_of(value)); }

  private:
    ~adapted() override = default;
    const T& value_of(const detail::context_value* value) const noexcept {
      return value ? static_cast<const detail::stored_value<T>*>(value)->get() : none_;
    }

    const std::function<T()> get_;
    const std::function<void(const T&)> set_;
    const T none_;
  };

  const detail::ref_ptr<adapted> adapted_;
};

}  // namespace bothworlds
