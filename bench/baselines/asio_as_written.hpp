// SPDX-License-Identifier: BSL-1.0
//
// Boost.Asio as people write it: an io_context and a future for each blocking call, and a hop to
// the pool and back for each offload.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <utility>

namespace bench::asio_as_written {

namespace asio = boost::asio;

template <class F>
auto block_on(F f) {
  asio::io_context io;
  auto result = asio::co_spawn(io, f(), asio::use_future);
  io.run();
  return result.get();
}

template <class F>
asio::awaitable<int> offload(asio::thread_pool& pool, F f) {
  co_await asio::post(asio::bind_executor(pool, asio::use_awaitable));
  const int result = f();
  co_await asio::post(asio::use_awaitable);
  co_return result;
}

}  // namespace bench::asio_as_written
