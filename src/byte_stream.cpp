// SPDX-License-Identifier: BSL-1.0
#include <bothworlds/detail/byte_transfer.hpp>

#include <boost/asio/error.hpp>
#include <boost/system/errc.hpp>
#include <boost/system/system_error.hpp>

#include <algorithm>
#include <istream>
#include <ostream>
#include <streambuf>

namespace bothworlds::detail {
namespace {

boost::system::error_code io_error() { return make_error_code(boost::system::errc::io_error); }

}  // namespace

// Both go by way of the buffer: an istream counts a short read as a failure, and would have to be
// cleared.
transferred read_bytes::operator()() const {
  using traits = std::streambuf::traits_type;
  std::streambuf* const buffer = from->rdbuf();
  if (!buffer) return {io_error(), 0};
  if (traits::eq_int_type(buffer->sgetc(), traits::eof())) return {asio::error::eof, 0};
  // The byte that was waited for is there, whatever in_avail() knows of it.
  const std::streamsize there = std::max<std::streamsize>(buffer->in_avail(), 1);
  const std::streamsize wanted = std::min(there, static_cast<std::streamsize>(into.size()));
  return {{}, static_cast<std::size_t>(buffer->sgetn(static_cast<char*>(into.data()), wanted))};
}

transferred write_bytes::operator()() const {
  std::streambuf* const buffer = to->rdbuf();
  if (!buffer) return {io_error(), 0};
  const std::streamsize taken = buffer->sputn(static_cast<const char*>(from.data()),
                                              static_cast<std::streamsize>(from.size()));
  if (taken <= 0 || buffer->pubsync() != 0) return {io_error(), 0};
  return {{}, static_cast<std::size_t>(taken)};
}

boost::system::error_code as_error_code(const std::exception_ptr& failure) noexcept {
  try {
    std::rethrow_exception(failure);
  } catch (const boost::system::system_error& e) {
    return e.code();
  } catch (...) {
    return io_error();
  }
}

}  // namespace bothworlds::detail
