// SPDX-License-Identifier: BSL-1.0
//
// The machine's own limits: a request to another thread and its answer, by futex or by spinning,
// with nothing around it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace bench {

/// How many CPUs may run this process.
int usable_cpus();

enum class waiting { by_futex, by_spinning };

/// A thread that answers one request at a time.
class hand_over {
public:
  explicit hand_over(waiting how);
  ~hand_over();
  hand_over(const hand_over&) = delete;
  hand_over& operator=(const hand_over&) = delete;

  void round_trip();

private:
  void wait_for(std::atomic<std::uint32_t>& word, std::uint32_t value);
  void publish(std::atomic<std::uint32_t>& word, std::uint32_t value);
  void answer();

  const waiting how_;
  std::uint32_t round_ = 0;  // the asking thread
  alignas(64) std::atomic<std::uint32_t> request_{0};
  alignas(64) std::atomic<std::uint32_t> reply_{0};
  std::atomic<bool> ending_{false};  // set before the last request
  std::thread thread_;
};

}  // namespace bench
