// SPDX-License-Identifier: BSL-1.0
//
// One read or write of a std::streambuf, as an operation of Asio.
#pragma once

#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/error_code.hpp>

#include <cstddef>
#include <exception>
#include <iosfwd>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

struct transferred {
  boost::system::error_code failure;
  std::size_t bytes = 0;
};

/// Blocks until there is a byte, takes what is there then.
struct BOTHWORLDS_API read_bytes {
  std::istream* from;
  asio::mutable_buffer into;
  std::size_t size() const noexcept { return into.size(); }
  transferred operator()() const;
};

/// Blocks until the buffer has taken the bytes, and has been flushed.
struct BOTHWORLDS_API write_bytes {
  std::ostream* to;
  asio::const_buffer from;
  std::size_t size() const noexcept { return from.size(); }
  transferred operator()() const;
};

/// What completes the operation when its crossing has failed.
BOTHWORLDS_API boost::system::error_code as_error_code(const std::exception_ptr& failure) noexcept;

/// The first buffer that is not empty.
template <class Buffer, class Buffers>
Buffer first_of(const Buffers& buffers) {
  const auto end = asio::buffer_sequence_end(buffers);
  for (auto at = asio::buffer_sequence_begin(buffers); at != end; ++at)
    if (const Buffer found(*at); found.size() != 0) return found;
  return Buffer();
}

struct start_transfer {
  asio::any_io_executor fallback;
  sync_options options;
  std::source_location where;

  template <class Handler, class Transfer>
  void operator()(Handler&& handler, const Transfer& transfer) const {
    const auto executor = asio::get_associated_executor(handler, fallback);
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    if (transfer.size() == 0) {
      asio::post(executor,
                 [done = std::decay_t<Handler>(std::forward<Handler>(handler))]() mutable {
                   std::move(done)(boost::system::error_code(), std::size_t(0));
                 });
      return;
    }
    auto finish = [done = std::decay_t<Handler>(std::forward<Handler>(handler))](
                      std::exception_ptr failure, transferred result) mutable {
      if (failure) result = {as_error_code(failure), 0};
      std::move(done)(result.failure, result.bytes);
    };
    async_offload(
        transfer,
        asio::bind_cancellation_slot(slot, asio::bind_executor(executor, std::move(finish))),
        options, where);
  }
};

}  // namespace bothworlds::detail
