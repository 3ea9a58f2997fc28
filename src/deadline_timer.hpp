// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>

#include <chrono>

namespace bothworlds::detail {

/// Cancels a call when its time is over; gone when the call's coroutine is. Only for a call that
/// has a deadline.
///
/// A cancelled wait stays in the loop's queue until somebody drives the loop again. So it does not
/// own the call, but a link to it, which is cut when the timer goes. All of it is used on the
/// call's executor only.
class deadline_timer {
public:
  static bool is_needed_for(const async_call& call) noexcept {
    return call.deadline() != std::chrono::steady_clock::time_point::max();
  }

  deadline_timer(async_call& call, const asio::any_io_executor& executor)
      : timer_(executor, call.deadline()), link_(make_counted<link>(call)) {
    timer_.async_wait([to = link_](boost::system::error_code failure) {
      if (!failure && to->call) to->call->time_is_over();
    });
  }
  ~deadline_timer() { link_->call = nullptr; }
  deadline_timer(const deadline_timer&) = delete;
  deadline_timer& operator=(const deadline_timer&) = delete;

private:
  struct link : ref_counted {
    explicit link(async_call& to) noexcept : call(&to) {}
    async_call* call;  // null: the call has ended
  };

  asio::steady_timer timer_;
  const ref_ptr<link> link_;
};

}  // namespace bothworlds::detail
