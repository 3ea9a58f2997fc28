// SPDX-License-Identifier: BSL-1.0
#include "../src/adaptive_mutex.hpp"

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/process.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <barrier>
#include <mutex>
#include <thread>
#include <vector>

using bothworlds::detail::adaptive_mutex;
using namespace bothworlds::testing;

TEST_CASE("an adaptive_mutex lets one thread in at a time") {
  adaptive_mutex mutex;
  long count = 0;  // no atomic: the mutex is what keeps it right
  std::barrier in_step(4);
  const auto work = [&] {
    in_step.arrive_and_wait();
    for (int round = 0; round < 20'000; ++round) {
      const std::lock_guard lock(mutex);
      ++count;
    }
  };
  std::vector<std::thread> team;
  for (int id = 0; id < 4; ++id) team.emplace_back(work);
  for (std::thread& thread : team) thread.join();
  CHECK(count == 80'000);
}

TEST_CASE("an adaptive_mutex that is taken cannot be had by try_lock") {
  adaptive_mutex mutex;
  std::unique_lock first(mutex);
  std::unique_lock second(mutex, std::try_to_lock);
  CHECK_FALSE(second.owns_lock());
  first.unlock();
  CHECK(second.try_lock());
}

TEST_CASE("threads that wait long for an adaptive_mutex sleep, and all get it") {
  adaptive_mutex mutex;
  std::unique_lock held(mutex);
  std::vector<std::atomic<long>> ids(3);
  std::vector<std::thread> team;
  int done = 0;  // the mutex
  for (auto& id : ids)
    team.emplace_back([&mutex, &done, &id] {
      id = kernel_thread_id();
      const std::lock_guard lock(mutex);
      ++done;
    });
  for (const auto& id : ids) CHECK(comes_true([&] { return id != 0 && thread_sleeps(id); }));
  held.unlock();
  for (std::thread& thread : team) thread.join();
  CHECK(done == 3);
}
