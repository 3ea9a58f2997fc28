// SPDX-License-Identifier: BSL-1.0
//
// A bounded queue as everybody has written it once: a mutex, two condition variables, a deque.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

namespace bench {

template <class T>
class bounded_queue {
public:
  explicit bounded_queue(std::size_t capacity) : capacity_(capacity) {}

  void send(T item) {
    {
      std::unique_lock lock(mutex_);
      has_room_.wait(lock, [this] { return items_.size() < capacity_; });
      items_.push_back(std::move(item));
    }
    has_items_.notify_one();
  }

  T receive() {
    std::unique_lock lock(mutex_);
    has_items_.wait(lock, [this] { return !items_.empty(); });
    T item = std::move(items_.front());
    items_.pop_front();
    lock.unlock();
    has_room_.notify_one();
    return item;
  }

private:
  const std::size_t capacity_;
  std::mutex mutex_;
  std::condition_variable has_room_, has_items_;
  std::deque<T> items_;  // mutex_
};

}  // namespace bench
