// SPDX-License-Identifier: BSL-1.0
//
// Boost.Asio by somebody who knows what it costs: the io_context is kept, the result goes straight
// to the caller's stack, and an offload is one operation of async_initiate on an asio::thread_pool.
//
// It does less than the bridges: no cancellation, no exception from the callable, no nesting,
// nothing is counted.
#pragma once

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include <exception>
#include <utility>

namespace bench::asio_by_an_expert {

namespace asio = boost::asio;

/// The io_context that is kept for the calling thread.
asio::io_context& kept_loop();

template <class F>
int block_on(F f) {
  asio::io_context& io = kept_loop();
  std::exception_ptr failure;
  int result = 0;
  asio::co_spawn(io, f(), [&](std::exception_ptr why, int value) {
    failure = std::move(why);
    result = value;
  });
  io.restart();
  io.run();
  if (failure) std::rethrow_exception(failure);
  return result;
}

template <class F, class Token>
auto offload(asio::thread_pool& pool, F f, Token&& token) {
  const auto start = [&pool](auto handler, F callable) {
    auto executor = asio::get_associated_executor(handler);
    asio::post(pool, [handler = std::move(handler), work = asio::make_work_guard(executor),
                      callable = std::move(callable)]() mutable {
      const int result = callable();
      asio::post(work.get_executor(),
                 [handler = std::move(handler), result]() mutable { std::move(handler)(result); });
    });
  };
  return asio::async_initiate<Token, void(int)>(start, token, std::move(f));
}

}  // namespace bench::asio_by_an_expert
