// SPDX-License-Identifier: BSL-1.0
//
// A crossing that completes a handler of any kind.
#pragma once

#include <bothworlds/detail/suspension.hpp>
#include <bothworlds/detail/sync_call.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include <exception>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

template <class R>
struct offload_signature {
  static_assert(
      std::is_default_constructible_v<R>,
      "async_offload: the result needs a default constructor, for the case that there is an "
      "exception: return std::optional, or use sync_to_async");
  using type = void(std::exception_ptr, R);
};
template <>
struct offload_signature<void> {
  using type = void(std::exception_ptr);
};

template <class R>
using offloaded_call = resumes_handler<sync_call_result<R>>;

template <class R, class Handler>
void complete_offload(Handler& handler, std::exception_ptr failure, offloaded_call<R>* call) {
  if constexpr (std::is_void_v<R>)
    std::move(handler)(std::move(failure));
  else if (failure)
    std::move(handler)(std::move(failure), R());
  else
    std::move(handler)(std::exception_ptr(), R(call->take_result()));
}

/// Runs on the handler's executor, and counts as its outstanding work until then.
template <class R, class Handler>
class offload_completion {
public:
  offload_completion(Handler handler, ref_ptr<offloaded_call<R>> call,
                     const asio::any_io_executor& on)
      : handler_(std::move(handler)),
        call_(std::move(call)),
        work_(asio::prefer(on, asio::execution::outstanding_work.tracked)) {}

  void operator()() {
    const asio::any_io_executor work = std::move(work_);
    const ref_ptr<offloaded_call<R>> call = std::move(call_);
    Handler handler = std::move(handler_);
    complete_offload<R>(handler, call->failure(), call.get());
  }

private:
  Handler handler_;
  ref_ptr<offloaded_call<R>> call_;
  asio::any_io_executor work_;
};

template <class R>
struct start_offload {
  template <class Handler>
  void operator()(Handler&& handler, ref_ptr<offloaded_call<R>> call, worker_pool* pool) const {
    using target = std::decay_t<Handler>;
    worker_pool& fallback = pool ? *pool : default_worker_pool();
    const asio::any_io_executor executor =
        asio::get_associated_executor(handler, fallback.get_executor());
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    std::exception_ptr refused;
    try {
      call->prepare(asio::any_io_executor(executor));
    } catch (...) {
      refused = std::current_exception();
    }
    if (refused) {
      asio::post(executor, [handler = target(std::forward<Handler>(handler)), refused]() mutable {
        complete_offload<R>(handler, std::move(refused), nullptr);
      });
      return;
    }
    offloaded_call<R>& started = *call;
    started.suspend(continuation(offload_completion<R, target>(std::forward<Handler>(handler),
                                                               std::move(call), executor)),
                    slot);
  }
};

template <class R, class Token>
auto initiate_offload(ref_ptr<offloaded_call<R>> call, worker_pool* pool, Token&& token) {
  return asio::async_initiate<Token, typename offload_signature<R>::type>(start_offload<R>(), token,
                                                                          std::move(call), pool);
}

}  // namespace bothworlds::detail
