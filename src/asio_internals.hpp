// SPDX-License-Identifier: BSL-1.0
//
// The only place that knows Asio's detail namespace. Checked against Boost 1.81.
#pragma once

#include <boost/asio/execution_context.hpp>

#include <cstddef>

namespace bothworlds::detail {

/// What identifies the innermost Asio loop, or loop of ours, that the calling thread is inside of;
/// null: none.
const void* innermost_running_loop() noexcept;

/// Memory in which Asio recycles coroutine frames and operations while a thread runs one of our
/// loops. It lives as long as the loop, so that a warm call allocates nothing; the driver owns it.
class loop_memory {
public:
  loop_memory();
  ~loop_memory();
  loop_memory(const loop_memory&) = delete;
  loop_memory& operator=(const loop_memory&) = delete;

private:
  friend class running_loop_scope;
  alignas(std::max_align_t) std::byte storage_[512];
};

/// While it lives, Asio sees the calling thread as one that runs a loop. Strictly nested, on one
/// thread.
class running_loop_scope {
public:
  explicit running_loop_scope(loop_memory& memory) noexcept;
  ~running_loop_scope();
  running_loop_scope(const running_loop_scope&) = delete;
  running_loop_scope& operator=(const running_loop_scope&) = delete;

private:
  alignas(std::max_align_t) std::byte storage_[64];
};

/// The scheduler of an io_context or thread_pool, so that work can be counted and a stop be seen
/// through a type-erased executor. Empty for any other execution context. Valid as long as the
/// context is.
class scheduler_ref {
public:
  scheduler_ref() = default;
  explicit scheduler_ref(boost::asio::execution_context& context);

  explicit operator bool() const noexcept { return scheduler_ != nullptr; }
  bool stopped() const;
  void work_started() const noexcept;
  void work_finished() const noexcept;

private:
  void* scheduler_ = nullptr;
};

}  // namespace bothworlds::detail
