// SPDX-License-Identifier: BSL-1.0
#include "../src/pool_lock.hpp"

#include <doctest/doctest.h>

#include <atomic>

using bothworlds::detail::adaptive_mutex;
using bothworlds::detail::parker;
using bothworlds::detail::pool_lock;

TEST_CASE("a pool_lock tells the others when it has let the mutex go, and once") {
  adaptive_mutex mutex;
  parker sleeper;
  std::atomic<bool> called{false};
  {
    pool_lock lock(mutex);
    CHECK_FALSE(mutex.try_lock());
    lock.wakes(sleeper);
    lock.calls(called);
    CHECK_FALSE(sleeper.is_woken());
    CHECK_FALSE(called);

    lock.unlock();
    CHECK(sleeper.is_woken());
    CHECK(called);
    CHECK(mutex.try_lock());
    mutex.unlock();

    sleeper.park();
    called = false;
    lock.lock();
  }
  CHECK_FALSE(sleeper.is_woken());
  CHECK_FALSE(called);
  CHECK(mutex.try_lock());
  mutex.unlock();
}

TEST_CASE("a pool_lock wakes all that it is to wake, also at its end") {
  adaptive_mutex mutex;
  parker first, second;
  {
    pool_lock lock(mutex);
    lock.wakes(first);
    lock.wakes(second);
    CHECK_FALSE(second.is_woken());
  }
  CHECK(first.is_woken());
  CHECK(second.is_woken());
}
