// SPDX-License-Identifier: BSL-1.0
#include "aborted.hpp"

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

namespace bothworlds::detail {

std::exception_ptr operation_aborted() {
  return std::make_exception_ptr(
      boost::system::system_error(boost::asio::error::operation_aborted));
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
