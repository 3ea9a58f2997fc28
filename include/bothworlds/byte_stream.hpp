// SPDX-License-Identifier: BSL-1.0
//
// Blocking std::istream and std::ostream as streams of Asio.
#pragma once

#include <bothworlds/detail/byte_transfer.hpp>
#include <bothworlds/sync_options.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/system/error_code.hpp>

#include <cstddef>
#include <istream>
#include <ostream>
#include <source_location>
#include <utility>

namespace bothworlds {

namespace asio = boost::asio;

/// A blocking std::istream as an AsyncReadStream: for asio::async_read, async_read_until, …
///
/// Runs        each read as a call of sync_to_async on a worker, by way of the stream's buffer: it
/// blocks until there is a
///             byte, and gives what is there then. Use the stream by other ways only while no read
///             is outstanding.
/// Completes   with void(error_code, size_t), on the handler's associated executor, else on the one
/// given here:
///             asio::error::eof at the end; io_error where the buffer throws; an error of the
///             library (pool_closed, …).
/// Cancellation  before the read has begun: operation_aborted. A read that has begun is waited for,
/// because it writes into
///             the caller's buffer; what it reads is given. What blocks for ever cannot be
///             cancelled.
/// Threads     one operation at a time. The std::istream must outlive it.
/// Not for     std::cin while it is synchronised with stdio, which has no buffer: every byte is a
/// read of its own.
class async_istream {
public:
  using executor_type = asio::any_io_executor;
  using lowest_layer_type = async_istream;

  async_istream(asio::any_io_executor executor, std::istream& blocking, sync_options options = {},
                std::source_location where = std::source_location::current())
      : executor_(std::move(executor)), blocking_(&blocking), options_(options), where_(where) {}

  executor_type get_executor() const noexcept { return executor_; }
  lowest_layer_type& lowest_layer() noexcept { return *this; }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    const detail::read_bytes transfer{blocking_, detail::first_of<asio::mutable_buffer>(buffers)};
    return asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        detail::start_transfer{executor_, options_, where_}, token, transfer);
  }

private:
  executor_type executor_;
  std::istream* blocking_;
  sync_options options_;
  std::source_location where_;
};

/// A blocking std::ostream as an AsyncWriteStream: for asio::async_write, …
///
/// Each write is handed to the stream's buffer and flushed, on a worker; a buffer that takes
/// nothing more is an io_error. Otherwise as async_istream.
class async_ostream {
public:
  using executor_type = asio::any_io_executor;
  using lowest_layer_type = async_ostream;

  async_ostream(asio::any_io_executor executor, std::ostream& blocking, sync_options options = {},
                std::source_location where = std::source_location::current())
      : executor_(std::move(executor)), blocking_(&blocking), options_(options), where_(where) {}

  executor_type get_executor() const noexcept { return executor_; }
  lowest_layer_type& lowest_layer() noexcept { return *this; }

  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    const detail::write_bytes transfer{blocking_, detail::first_of<asio::const_buffer>(buffers)};
    return asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        detail::start_transfer{executor_, options_, where_}, token, transfer);
  }

private:
  executor_type executor_;
  std::ostream* blocking_;
  sync_options options_;
  std::source_location where_;
};

}  // namespace bothworlds
