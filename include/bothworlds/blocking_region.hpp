// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>

#include <cstddef>

namespace bothworlds {

/// While it lives, the calling thread says that it may block, and is about to.
///
/// On a worker of a pool it lets the pool start another worker meanwhile, up to its hard limit: put
/// it around waits that are not the library's own. On a thread that Asio takes for one that runs a
/// loop, such as one of an asio::thread_pool, it allows blocking calls: use it there only where
/// nothing waits for that very thread.
///
/// Strictly nested, on one thread, never across a co_await. `why` is shown in reports and must
/// outlive it.
class BOTHWORLDS_API blocking_region {
public:
  explicit blocking_region(const char* why = nullptr);
  ~blocking_region();
  blocking_region(const blocking_region&) = delete;
  blocking_region& operator=(const blocking_region&) = delete;

private:
  alignas(std::max_align_t) std::byte scope_[64];
  void* worker_;
};

}  // namespace bothworlds
