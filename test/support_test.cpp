// SPDX-License-Identifier: BSL-1.0
//
// What the other tests lean on.
#include "support/kernel_thread_id.hpp"

#include <doctest/doctest.h>

#include <latch>
#include <thread>

using bothworlds::testing::kernel_thread_count;
using bothworlds::testing::kernel_thread_id;

TEST_CASE("kernel_thread_id is the same on one thread and another on another thread") {
  const auto here = kernel_thread_id();
  auto there = here;
  std::thread([&] { there = kernel_thread_id(); }).join();
  CHECK(kernel_thread_id() == here);
  CHECK(there != here);
}

TEST_CASE("kernel_thread_count sees a thread for as long as it lives") {
  const int before = kernel_thread_count();
  std::latch may_end(1);
  std::thread other([&] { may_end.wait(); });
  CHECK(kernel_thread_count() == before + 1);
  may_end.count_down();
  other.join();
}
