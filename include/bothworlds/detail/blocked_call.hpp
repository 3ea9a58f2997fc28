// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/cancellation_type.hpp>

namespace bothworlds::detail {

/// What a thread is blocked in: something that can be cancelled from elsewhere.
class BOTHWORLDS_API blocked_call : public ref_counted {
public:
  /// Any thread, any number of times, also when it is over. Resumes nothing here.
  virtual void request_cancel(boost::asio::cancellation_type type) noexcept = 0;

protected:
  ~blocked_call() override;
};

}  // namespace bothworlds::detail
