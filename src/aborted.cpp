// SPDX-License-Identifier: BSL-1.0
#include "aborted.hpp"

#include "exception_from.hpp"

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

namespace bothworlds::detail {

std::exception_ptr operation_aborted() noexcept {
  return exception_from(
      [] { return boost::system::system_error(boost::asio::error::operation_aborted); });
}

bool is_operation_aborted(const std::exception_ptr& failure) noexcept {
  try {
    std::rethrow_exception(failure);
  } catch (const boost::system::system_error& e) {
    return e.code() == boost::asio::error::operation_aborted;
  } catch (...) {
    return false;
  }
}

}  // namespace bothworlds::detail
