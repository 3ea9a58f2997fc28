// SPDX-License-Identifier: BSL-1.0
#include "progress_bar.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>

#include <unistd.h>

namespace demo {

namespace {

bool on_a_terminal() {
  static const bool answer = ::isatty(STDOUT_FILENO) == 1;
  return answer;
}

int percent_of(const index_progress& progress) {
  return progress.files_found == 0
             ? 0
             : static_cast<int>(progress.files_read * 100 / progress.files_found);
}

void draw(const index_progress& progress) {
  constexpr int width = 40;
  const int percent = percent_of(progress);
  const int full = width * percent / 100;
  char numbers[96] = "] looking for files";
  if (progress.files_found != 0)
    std::snprintf(numbers, sizeof numbers, "] %3d %%  %llu files  %.1f MB", percent,
                  static_cast<unsigned long long>(progress.files_read),
                  static_cast<double>(progress.bytes_read) / 1e6);
  // Erases the line first: what stood there may have been longer.
  std::cout << "\r\x1b[K[" << std::string(full, '=') << std::string(width - full, ' ') << numbers
            << std::flush;
}

/// The bar as it stands at the end, whatever the end was, and a fresh line for what comes after it.
class final_bar {
public:
  explicit final_bar(const index_progress& progress) : progress_(progress) {}
  final_bar(const final_bar&) = delete;
  final_bar& operator=(const final_bar&) = delete;
  ~final_bar() {
    if (!on_a_terminal()) return;
    draw(progress_);
    std::cout << std::endl;
  }

private:
  const index_progress& progress_;
};

}  // namespace

asio::awaitable<void> show_progress(const index_progress& progress) {
  using namespace std::chrono_literals;
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer tick(executor);
  const final_bar bar(progress);
  // The blocking reads go on meanwhile; the loop is free to look at the clock.
  for (int next_line = 25;;) {
    if (on_a_terminal()) {
      draw(progress);
    } else if (percent_of(progress) >= next_line) {
      std::cout << "  " << next_line << " % of " << progress.files_found << " files" << std::endl;
      next_line += 25;
    }
    tick.expires_after(100ms);
    co_await tick.async_wait(asio::use_awaitable);
  }
}

}  // namespace demo
