// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <functional>
#include <semaphore>
#include <thread>
#include <utility>

namespace bench {

/// A second thread, kept, for what takes two: it does its part while the first one does the other.
class partner {
public:
  explicit partner(std::function<void(std::size_t)> part)
      : part_(std::move(part)), thread_([this] { work(); }) {}
  ~partner() {
    ending_ = true;
    begin_.release();
    thread_.join();
  }
  partner(const partner&) = delete;
  partner& operator=(const partner&) = delete;

  /// Runs `mine` here and part(rounds) there; returns when both have ended.
  template <class Mine>
  void together(std::size_t rounds, Mine mine) {
    rounds_ = rounds;
    begin_.release();
    mine();
    ended_.acquire();
  }

private:
  void work() {
    for (;;) {
      begin_.acquire();
      if (ending_) return;
      part_(rounds_);
      ended_.release();
    }
  }

  const std::function<void(std::size_t)> part_;
  std::binary_semaphore begin_{0}, ended_{0};
  std::size_t rounds_ = 0;  // written before begin_, like the next
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace bench
