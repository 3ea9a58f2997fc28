// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/deferred.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

namespace bench {

/// Resumes the coroutine that awaits it when `count` others have ended, all on one loop.
class countdown {
public:
  explicit countdown(std::size_t count) : left_(count) {}
  void one_less() {
    if (--left_ == 0) std::exchange(last_, nullptr)();
  }
  auto reached() {
    const auto start = [this](auto handler) {
      auto kept = std::make_shared<decltype(handler)>(std::move(handler));
      last_ = [kept] { std::move (*kept)(); };
    };
    return boost::asio::async_initiate<const boost::asio::deferred_t&, void()>(
        start, boost::asio::deferred);
  }

private:
  std::size_t left_;
  std::function<void()> last_;
};

}  // namespace bench
