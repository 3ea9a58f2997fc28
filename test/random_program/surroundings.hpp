// SPDX-License-Identifier: BSL-1.0
//
// Where the nodes of a running program find themselves, and where they may.
#pragma once

#include "support/kernel_thread_id.hpp"

#include <bothworlds/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <latch>

namespace bothworlds::testing::random_program {

namespace asio = boost::asio;

/// Ids of threads, added by those threads themselves.
class thread_set {
public:
  void add_this_thread() {
    const std::size_t mine = count_.fetch_add(1, std::memory_order_relaxed);
    ids_[mine % ids_.size()].store(kernel_thread_id(), std::memory_order_relaxed);
  }
  bool contains(long id) const {
    for (const auto& known : ids_)
      if (known.load(std::memory_order_relaxed) == id) return true;
    return false;
  }

private:
  std::array<std::atomic<long>, 64> ids_{};
  std::atomic<std::size_t> count_{0};
};

/// The threads on which the blocking nodes of some programs run.
class stage {
public:
  stage(unsigned soft_limit, unsigned hard_limit)
      : pool_({.soft_limit = soft_limit, .hard_limit = hard_limit, .on_thread_start = [this] {
                 workers_.add_this_thread();
               }}) {}

  worker_pool& pool() { return pool_; }
  bool is_worker(long thread) const { return workers_.contains(thread); }

private:
  thread_set workers_;
  worker_pool pool_;
};

/// The threads of a user's executor.
class executor_threads {
public:
  executor_threads() {
    // Each thread holds one of these until the other has come.
    std::latch all_here(count + 1);
    std::latch all_gone(count);
    for (int i = 0; i < count; ++i)
      asio::post(threads_, [&] {
        ids_.add_this_thread();
        all_here.arrive_and_wait();
        all_gone.count_down();
      });
    all_here.arrive_and_wait();
    all_gone.wait();
  }

  const asio::any_io_executor& executor() const { return executor_; }
  bool contains(long thread) const { return ids_.contains(thread); }

private:
  static constexpr int count = 2;
  thread_set ids_;
  asio::thread_pool threads_{count};
  asio::any_io_executor executor_ = threads_.get_executor();
};

/// The loop of some coroutines.
struct loop_place {
  enum class kind { own, single, strand, threads };

  kind what = kind::own;
  bool serial = true;
  long owner = 0;                              // own: who drives it when nobody helps
  const thread_set* threads = nullptr;         // of a user's loop
  asio::execution_context* context = nullptr;  // likewise
  std::function<bool()> inside = {};           // strand: whether this thread is in it
  std::atomic<bool> busy{false};
};

/// What thread-sensitive nodes share.
struct sync_place {
  enum class kind { root_thread, process, context };

  kind what = kind::process;
  std::atomic<long> thread{0};  // 0: not known yet
};

/// A thread that is blocked in async_to_sync, on its own stack.
struct blocked_thread {
  long thread = 0;
  const blocked_thread* above = nullptr;
};

}  // namespace bothworlds::testing::random_program
