// SPDX-License-Identifier: BSL-1.0
//
// What context_var<T> is without its type.
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <atomic>
#include <cstdint>
#include <source_location>
#include <utility>

namespace bothworlds::detail {

/// One for each context_var; lives as long as a value of it does. Its id is never given to another
/// one.
class BOTHWORLDS_API context_variable final : public ref_counted {
public:
  /// `name` is copied.
  explicit context_variable(const char* name);

  const char* name() const noexcept { return name_; }
  std::uint64_t id() const noexcept { return id_; }
  /// Its context_var has been destroyed: nobody can ask for its values any more.
  void retire() noexcept { retired_.store(true, std::memory_order_relaxed); }
  bool is_retired() const noexcept { return retired_.load(std::memory_order_relaxed); }

private:
  ~context_variable() override;

  const char* const name_;
  const std::uint64_t id_;
  std::atomic<bool> retired_{
      false};  // a hint: whoever copies values may leave out those of a retired variable
};

/// A value that was set. Immutable, shared by all snapshots that have it.
class BOTHWORLDS_API context_value : public ref_counted {
public:
  explicit context_value(ref_ptr<const context_variable> variable) noexcept
      : variable_(std::move(variable)) {}
  const context_variable& variable() const noexcept { return *variable_; }

protected:
  ~context_value() override;

private:
  const ref_ptr<const context_variable> variable_;
};

template <class T>
class stored_value final : public context_value {
public:
  template <class U>
  stored_value(ref_ptr<const context_variable> variable, U&& value)
      : context_value(std::move(variable)), value_(std::forward<U>(value)) {}
  const T& get() const noexcept { return value_; }

private:
  ~stored_value() override = default;
  const T value_;
};

/// What the code that runs now has set `variable` to; null: nothing. Stays valid until it sets it
/// anew.
BOTHWORLDS_API const context_value* current_value(const context_variable& variable) noexcept;

/// Sets `variable`, or with null unsets it, for the code that runs now; gives what was set before.
/// Throws misuse_error, no_context, where nothing could carry the value, and std::bad_alloc.
BOTHWORLDS_API ref_ptr<const context_value> exchange_value(const context_variable& variable,
                                                           ref_ptr<const context_value> value,
                                                           std::source_location where);

/// Throws misuse_error, invalid_options: a token was given to another variable than the one it came
/// from.
[[noreturn]] BOTHWORLDS_API void refuse_token(const context_variable& variable,
                                              std::source_location where);

/// Sets a variable, and sets it back in the end, where the same code is still running then: a
/// coroutine frame that is destroyed by somebody else leaves that one's values alone.
class BOTHWORLDS_API value_scope {
public:
  value_scope(ref_ptr<const context_variable> variable, ref_ptr<const context_value> value,
              std::source_location where);
  ~value_scope();
  value_scope(const value_scope&) = delete;
  value_scope& operator=(const value_scope&) = delete;

private:
  const ref_ptr<const context_variable> variable_;
  ref_ptr<const context_value> previous_;
  const void* const set_in_;
};

}  // namespace bothworlds::detail
