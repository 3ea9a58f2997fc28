// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>

namespace bothworlds::detail {

/// Part of an object that std::coroutine_handle<Promise> takes for a suspended coroutine: for an
/// operation that is awaited as a coroutine but has no use for a frame of its own, with a body, and
/// memory, that the compiler lays out.
///
/// g++, clang and MSVC agree that a frame begins with a pointer to the function that resumes it and
/// one to the function that destroys it, and that the promise follows. The standard says nothing of
/// that; test/synthetic_coroutine_test.cpp asks the compiler. The term, and the idea that the object
/// changes those pointers as it goes on, are Mircea Baja's ("Synthetic coroutine", 2025); for the
/// layout see Raymond Chen, "Debugging coroutine handles" (2021).
///
/// Derived inherits from it once, and befriends it. Whoever resumes or destroys the coroutine must
/// be alone with it, as with any other.
template <class Promise, class Derived>
class synthetic_coroutine {
public:
  synthetic_coroutine(const synthetic_coroutine&) = delete;
  synthetic_coroutine& operator=(const synthetic_coroutine&) = delete;

protected:
  synthetic_coroutine() noexcept {}
  ~synthetic_coroutine() {}

  /// From now on it is a coroutine that First is to resume. When it is destroyed, the promise is, and
  /// then Destroyed is called, which may delete the object.
  template <auto First, auto Destroyed>
  Promise& create() noexcept(noexcept(Promise())) {
    destroy_ = unseen([](void* frame) {
      synthetic_coroutine& self = from(frame);
      std::destroy_at(&self.promise_);
      (static_cast<Derived&>(self).*Destroyed)();
    });
    resume_with<First>();
    return *std::construct_at(&promise_);
  }

  /// What the next resumption calls. It must not throw.
  template <auto Next>
  void resume_with() noexcept {
    resume_ = unseen([](void* frame) { (static_cast<Derived&>(from(frame)).*Next)(); });
  }

  /// Between create() and the end of it.
  Promise& promise() noexcept { return promise_; }

private:
  using step = void (*)(void* frame);

  static synthetic_coroutine& from(void* frame) noexcept {
    return *static_cast<synthetic_coroutine*>(frame);
  }
  // Clang calls the steps of a coroutine by a convention of its own. For one pointer it is the same as
  // any function's, but where clang sees which function it calls, and that this is another kind, it
  // takes the call for one that is never reached.
  static step unseen(step what) noexcept {
    asm("" : "+r"(what));
    return what;
  }

  step resume_ = nullptr;
  step destroy_ = nullptr;
  union {
    Promise promise_;
  };
};

}  // namespace bothworlds::detail
