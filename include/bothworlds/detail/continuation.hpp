// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/recycling.hpp>

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

/// A move-only `void()` that is called at most once. What fits into two pointers is stored in
/// place; the rest takes recycled memory when it is made, never when it is called.
class continuation {
  struct storage {
    alignas(void*) std::byte bytes[2 * sizeof(void*)];
  };

public:
  /// It is stored in place: to make a continuation of it takes no memory.
  template <class T>
  static constexpr bool fits = sizeof(T) <= sizeof(storage) && alignof(T) <= alignof(storage) &&
                               std::is_nothrow_move_constructible_v<T>;

  continuation() = default;

  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, continuation>)
  explicit continuation(F&& f) {
    using target = std::remove_cvref_t<F>;
    if constexpr (fits<target>) {
      new (&storage_) target(std::forward<F>(f));
      actions_ = &in_place<target>;
    } else {
      static_assert(alignof(target) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
      void* block = recycle_allocate(sizeof(target));
      try {
        new (block) target(std::forward<F>(f));
      } catch (...) {
        recycle_deallocate(block, sizeof(target));
        throw;
      }
      *reinterpret_cast<void**>(&storage_) = block;
      actions_ = &on_heap<target>;
    }
  }

  continuation(continuation&& other) noexcept : actions_(std::exchange(other.actions_, nullptr)) {
    if (actions_) actions_->relocate(&other.storage_, &storage_);
  }
  continuation& operator=(continuation&& other) noexcept {
    if (this != &other) {
      reset();
      actions_ = std::exchange(other.actions_, nullptr);
      if (actions_) actions_->relocate(&other.storage_, &storage_);
    }
    return *this;
  }
  ~continuation() { reset(); }

  explicit operator bool() const noexcept { return actions_ != nullptr; }

  void reset() noexcept {
    if (const auto* known = std::exchange(actions_, nullptr)) known->destroy(&storage_);
  }

  /// Calls it and leaves this empty. The storage is free before the call is made.
  void operator()() { std::exchange(actions_, nullptr)->call(&storage_); }

private:
  struct actions {
    void (*relocate)(void* from, void* to) noexcept;
    void (*destroy)(void*) noexcept;
    void (*call)(void*);
  };

  template <class T>
  static constexpr actions in_place{[](void* from, void* to) noexcept {
                                      T* source = static_cast<T*>(from);
                                      new (to) T(std::move(*source));
                                      source->~T();
                                    },
                                    [](void* at) noexcept { static_cast<T*>(at)->~T(); },
                                    [](void* at) {
                                      T target(std::move(*static_cast<T*>(at)));
                                      static_cast<T*>(at)->~T();
                                      std::move(target)();
                                    }};

  template <class T>
  static constexpr actions on_heap{
      [](void* from, void* to) noexcept { *static_cast<void**>(to) = *static_cast<void**>(from); },
      [](void* at) noexcept {
        T* target = *static_cast<T**>(at);
        target->~T();
        recycle_deallocate(target, sizeof(T));
      },
      [](void* at) {
        T* stored = *static_cast<T**>(at);
        T target(std::move(*stored));
        stored->~T();
        recycle_deallocate(stored, sizeof(T));
        std::move(target)();
      }};

  const actions* actions_ = nullptr;
  storage storage_;
};

}  // namespace bothworlds::detail
