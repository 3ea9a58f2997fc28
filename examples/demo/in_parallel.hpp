// SPDX-License-Identifier: BSL-1.0
//
// Several coroutines at once on one loop, in plain Asio.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstddef>
#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace demo {

namespace asio = boost::asio;

/// Runs the `count` coroutines make(0), make(1), … beside each other and returns when all have
/// ended. The first one that throws cancels the others, and its exception is rethrown once they
/// have unwound.
template <class Make>
asio::awaitable<void> in_parallel(std::size_t count, Make make) {
  if (count == 0) co_return;

  auto executor = co_await asio::this_coro::executor;
  using operation = decltype(asio::co_spawn(executor, make(0), asio::deferred));
  std::vector<operation> operations;
  operations.reserve(count);
  for (std::size_t i = 0; i < count; ++i)
    operations.push_back(asio::co_spawn(executor, make(i), asio::deferred));

  auto group = asio::experimental::make_parallel_group(std::move(operations));
  auto ends =
      co_await group.async_wait(asio::experimental::wait_for_one_error(), asio::use_awaitable);
  const auto& [order, errors] = ends;
  for (auto i : order)
    if (errors[i]) std::rethrow_exception(errors[i]);
}

/// Runs `work` with `companion` beside it. Whichever ends first, also by an exception, ends the
/// other, and only when both have unwound is the outcome of that first one delivered. A companion
/// that simply returns has nothing to say: then the outcome is that of the cancelled `work`.
template <class T>
asio::awaitable<T> alongside(asio::awaitable<T> work, asio::awaitable<void> companion) {
  auto executor = co_await asio::this_coro::executor;
  auto group = asio::experimental::make_parallel_group(
      asio::co_spawn(executor, std::move(work), asio::deferred),
      asio::co_spawn(executor, std::move(companion), asio::deferred));
  // order of completion, error of the work, [its result,] error of the companion
  auto ends = co_await group.async_wait(asio::experimental::wait_for_one(), asio::use_awaitable);

  constexpr auto last = std::tuple_size_v<decltype(ends)> - 1;
  const bool companion_first = std::get<0>(ends)[0] == 1;
  if (companion_first && std::get<last>(ends)) std::rethrow_exception(std::get<last>(ends));
  if (std::get<1>(ends)) std::rethrow_exception(std::get<1>(ends));
  if constexpr (!std::is_void_v<T>) co_return std::move(std::get<2>(ends));
}

}  // namespace demo
