// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/sync_call.hpp>
#include <bothworlds/detail/synthetic_coroutine.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

/// A call that is, to Asio, also the coroutine that starts it, waits and takes its result: so both
/// are one block of memory, and a step of that coroutine is a plain function.
///
/// The awaitable owns the coroutine, which owns a reference to the call: it goes when it has been
/// awaited, is dropped, or is destroyed with the coroutine that awaits it, while an abandoned callable
/// may go on with the call. All of it is touched on the awaiting loop only.
template <class R>
class awaited_crossing : private synthetic_coroutine<operation_promise<R>, awaited_crossing<R>>,
                         public sync_call_result<R> {
public:
  /// Once, before it is started. Takes the caller's reference.
  asio::awaitable<R> as_awaitable() {
    using self = awaited_crossing;
    return this->template create<&self::is_awaited, &self::is_let_go>().get_return_object();
  }

protected:
  using sync_call_result<R>::sync_call_result;
  ~awaited_crossing() override = default;

private:
  friend class synthetic_coroutine<operation_promise<R>, awaited_crossing<R>>;

  void is_awaited() noexcept {
    operation_promise<R>& promise = this->promise();
    try {
      this->prepare(promise.executor());
    } catch (...) {
      promise.fails(std::current_exception());
      return promise.ends();
    }
    this->template resume_with<&awaited_crossing::has_arrived>();
    const asio::cancellation_slot slot = promise.slot();
    std::construct_at(&waiting_.thread, promise.suspend());
    // From here on it may be resumed, on another thread, too.
    this->suspended(slot);
  }

  continuation resumption() noexcept final {
    static_assert(continuation::fits<coroutine_resumption>);
    continuation goes_on(coroutine_resumption{std::move(waiting_.thread)});
    std::destroy_at(&waiting_.thread);
    return goes_on;
  }

  void has_arrived() noexcept {
    operation_promise<R>& promise = this->promise();
    promise.clear_cancellation_slot();
    if (std::exception_ptr why = this->failure())
      promise.fails(std::move(why));
    else if constexpr (!std::is_void_v<R>)
      hand_result_to(promise);
    promise.ends();
  }

  void hand_result_to(operation_promise<R>& promise) noexcept {
    try {
      promise.return_value(this->take_result());
    } catch (...) {
      promise.fails(std::current_exception());
    }
  }

  void is_let_go() noexcept { intrusive_ptr_release(this); }

  union room_for_thread {
    room_for_thread() noexcept {}
    ~room_for_thread() {}
    coroutine_thread thread;
  };

  room_for_thread waiting_;  // has it from suspended() to resumption()
};

/// An awaitable that owns the call.
template <class R>
asio::awaitable<R> await_crossing(ref_ptr<awaited_crossing<R>> call) {
  return call.detach()->as_awaitable();
}

}  // namespace bothworlds::detail
