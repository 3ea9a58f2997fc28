// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"
#include "loop.hpp"
#include "serial_executor.hpp"

#include <bothworlds/detail/awaited_call.hpp>
#include <bothworlds/error.hpp>

#include <boost/asio/strand.hpp>

namespace bothworlds::detail {
namespace {

using io_executor = asio::io_context::executor_type;

std::optional<io_executor> find_io_executor(const asio::any_io_executor& executor) {
  if (const auto* plain = executor.target<io_executor>()) return *plain;
  if (const auto* strand = executor.target<asio::strand<io_executor>>())
    return strand->get_inner_executor();
  if (const auto* strand = executor.target<asio::strand<asio::any_io_executor>>())
    return find_io_executor(strand->get_inner_executor());
  if (const auto* serial = executor.target<serial_executor>())
    return find_io_executor(serial->inner());
  if (const ref_ptr<chain_node>* node = find_node(executor)) {
    if (loop* own = (*node)->own_loop().get()) return own->context().get_executor();
    return find_io_executor((*node)->inner());
  }
  return std::nullopt;
}

}  // namespace

io_executor io_context_executor_of(const asio::any_io_executor& executor,
                                   std::source_location where) {
  if (const auto found = find_io_executor(executor)) return *found;
  throw misuse_error(
      errc::invalid_options, where,
      "async_to_sync: the loop that is to run this awaitable is no io_context, but the "
      "awaitable's executor type asks for one",
      "  fix  use asio::awaitable<T>, whose executor is type-erased\n");
}

}  // namespace bothworlds::detail
