// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <source_location>
#include <string>
#include <vector>

namespace bothworlds {

namespace asio = boost::asio;

class worker_pool;
namespace detail {
class worker_pool_core;
const ref_ptr<worker_pool_core>& core_of(const worker_pool& pool) noexcept;
}  // namespace detail

/// A queue length, or a limit, without a bound.
inline constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

/// What happens to a call that finds the pool's queue full.
enum class on_full {
  /// The awaiting coroutine waits, like every queued call: the limit only shows in stats().
  suspend,
  /// The call fails with errc::queue_full.
  reject,
  /// The callable runs at once on the awaiting loop's thread, and blocks it. What has no such
  /// thread, as a function given to get_executor() or a call that waited for a limiter's token, is
  /// queued.
  caller_runs,
};

struct worker_pool_options {
  unsigned soft_limit = 0;  ///< workers that may run user code at once; 0: 4 + hardware threads
  unsigned hard_limit = 0;  ///< with workers blocked in bridge calls, how far it may grow; 0: 512
  std::size_t queue_limit = no_limit;
  on_full when_full = on_full::suspend;
  /// A worker without work leaves after this long, and a thread whose worker has left as surplus
  /// ends, if none has come back to it.
  std::chrono::milliseconds idle_timeout{10000};
  std::string name = "bothworlds";  ///< of the OS threads: "name-1", "name-2", … (15 characters)
  std::size_t stack_size = 0;       ///< bytes; 0: the system's default
  /// Called on each worker when it starts and before it ends. What they throw is reported on
  /// stderr; the pool and the worker go on.
  std::function<void()> on_thread_start = {}, on_thread_stop = {};
};

struct worker_pool_stats {
  /// Workers; a thread whose worker has left, and that waits to become one again, is none.
  std::size_t threads = 0;
  std::size_t busy = 0;               ///< running a callable, blocked in it or not
  std::size_t blocked_in_bridge = 0;  ///< of those, blocked in async_to_sync or a blocking_region
  std::size_t queued = 0;
  std::chrono::milliseconds oldest_queued{0};  ///< age of the oldest queued call; 0: none
  std::uint64_t completed = 0;                 ///< callables that have ended on the pool's workers
  std::uint64_t abandoned =
      0;  ///< callables that were left to themselves by cancel_policy::abandon
  std::uint64_t compensations = 0;  ///< workers that were added in place of blocked ones
};

/// A callable that was still running when shutdown() stopped waiting, or was never run.
struct leftover {
  std::string name;  ///< sync_options::name, or file:line of the wrap
  std::source_location where;
  std::chrono::milliseconds running_for{0};  ///< 0: it never ran
  int kernel_thread_id = 0;                  ///< 0: it never ran
};

/// Threads for blocking callables. Starts none before the first call; grows to `soft_limit`, by one
/// thread for a call that finds no idle worker; a worker leaves after `idle_timeout` without work.
/// With workers blocked in bridge calls it grows beyond that, up to `hard_limit`; the surplus leaves
/// when it next looks for work, and its threads wait for the next nested calls.
/// All signals are blocked in its threads, so that the process's handlers run elsewhere. Its
/// members may be called from any thread.
///
/// Use the default pool unless calls need a limit, a name or threads of their own. Not for work
/// that uses the CPU all the time and is to scale with it: the pool holds more threads than there
/// are CPUs.
class BOTHWORLDS_API worker_pool {
public:
  /// Starts no thread. Throws misuse_error, invalid_options, when hard_limit is below soft_limit.
  explicit worker_pool(worker_pool_options options = {});
  /// Like shutdown() without a bound: waits for what runs and for what is queued. Never destroy a
  /// pool from one of its own workers.
  ~worker_pool();
  worker_pool(const worker_pool&) = delete;
  worker_pool& operator=(const worker_pool&) = delete;

  /// An executor for plain Asio code: each function runs once, on a worker, never inside execute().
  /// It may block. An exception that leaves a function is reported on stderr; the worker goes on.
  /// execute() throws errc::pool_closed, queue_full and forked_child.
  asio::any_io_executor get_executor();

  worker_pool_stats stats() const;

  /// Refuses new work, lets queued work run, and waits for all of it, for `patience` at most. What
  /// is queued by then fails with errc::pool_closed. Returns what did not end, the longest-running
  /// first; those callables go on, and the pool's state lives until they have ended. Call it from
  /// outside the pool. May be called again.
  std::vector<leftover> shutdown(std::chrono::steady_clock::duration patience);

private:
  friend const detail::ref_ptr<detail::worker_pool_core>& detail::core_of(
      const worker_pool& pool) noexcept;
  detail::ref_ptr<detail::worker_pool_core> core_;
};

/// The pool of every call that names no other: default limits, made at first use, never destroyed.
/// At exit the process does not wait for it. A forked child gets its own.
BOTHWORLDS_API worker_pool& default_worker_pool();

}  // namespace bothworlds
