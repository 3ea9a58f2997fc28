// SPDX-License-Identifier: BSL-1.0
//
// Sixty-four chains that cross both bridges, are cancelled, abandoned, interrupted, limited and
// timed out, for as many seconds as the first argument says. They run in rounds. Between two rounds
// nothing is under way, and it is counted: what was submitted has completed, was cancelled or was
// abandoned; every callable that began has ended; limiter and pool are empty, the pool is back at
// its soft limit, and no more memory is in use than after the first rounds.

#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/cancellation_state.hpp>
#include <boost/thread/exceptions.hpp>
#include <boost/thread/thread.hpp>

#include <algorithm>
#include <barrier>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include <malloc.h>
#include <unistd.h>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_to_async;
using clock_type = std::chrono::steady_clock;

namespace {

constexpr int loops = 3;
constexpr int chains_per_loop = 16;
constexpr int sync_roots = 16;
constexpr unsigned soft_limit = 6;
constexpr int deepest = 3;

using counter = std::atomic<std::uint64_t>;

struct ledger {
  counter submitted{0};  // calls of sync_to_async that were awaited
  counter returned{0};   // of them, those that gave their callable's result or exception
  counter aborted{0};    // of them, those that ended with operation_aborted
  counter begun{0};      // callables
  counter ended{0};      // callables, however
  counter unwound{0};    // callables that were left by a cancellation or an interruption
};

/// What a callable throws of its own.
struct expected_failure {};

class soak {
public:
  soak() {
    for (int i = 0; i < loops; ++i) drivers_.emplace_back();
    for (int i = 0; i < sync_roots; ++i)
      roots_.emplace_back([this, i] {
        std::minstd_rand random(static_cast<unsigned>(1000 + i));
        for (;;) {
          round_begins_.arrive_and_wait();
          if (over_) return;
          async_to_sync([&]() -> awaitable<void> { return chain(random); })();
          round_ends_.arrive_and_wait();
        }
      });
  }

  ~soak() {
    over_ = true;
    round_begins_.arrive_and_wait();
    for (auto& root : roots_) root.join();
  }

  void run_round(clock_type::duration length) {
    until_ = clock_type::now() + length;
    round_begins_.arrive_and_wait();
    std::atomic<int> running{loops * chains_per_loop};
    for (int i = 0; i < loops * chains_per_loop; ++i)
      asio::co_spawn(
          drivers_[static_cast<std::size_t>(i % loops)].executor(),
          [this, seed = ++seeds_]() -> awaitable<void> {
            std::minstd_rand random(seed);
            co_await chain(random);
          },
          [&running](std::exception_ptr failure) {
            if (failure) std::terminate();
            --running;
            running.notify_all();
          });
    for (int left = running; left != 0; left = running) running.wait(left);
    round_ends_.arrive_and_wait();
  }

  /// Abandoned callables may still be at it after a round.
  bool at_rest() const { return books.begun == books.ended && pool_.stats().busy == 0; }
  bothworlds::worker_pool_stats pool() const { return pool_.stats(); }
  bothworlds::capacity_limiter_stats limiter() const { return limiter_.stats(); }

  ledger books;

private:
  awaitable<void> chain(std::minstd_rand& random) {
    while (clock_type::now() < until_) {
      try {
        co_await crossing(random, deepest);
      } catch (const expected_failure&) {
      } catch (const boost::system::system_error& e) {
        if (!is_cancellation(e)) throw;
      }
      co_await yield_to_loop();
    }
  }

  /// One call, which may be cancelled on its way.
  awaitable<void> crossing(std::minstd_rand& random, int depth) {
    const auto dice = random();
    if (dice % 4 != 0) {
      co_await call(random, depth);
      co_return;
    }
    auto executor = co_await asio::this_coro::executor;
    child_task child(executor, [&]() -> awaitable<void> { return call(random, depth); });
    if (dice % 8 == 0) {
      asio::steady_timer pause(executor, std::chrono::microseconds(dice / 8 % 300));
      boost::system::error_code ignored;
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    child.cancel();
    // The child uses this frame: it is waited for, also where this coroutine is cancelled, too.
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    std::exception_ptr failure;
    try {
      co_await child.join();
    } catch (...) {
      failure = std::current_exception();
    }
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    if (failure) std::rethrow_exception(failure);
  }

  awaitable<void> call(std::minstd_rand& random, int depth) {
    const auto dice = random();
    bothworlds::sync_options options{.pool = &pool_};
    switch (dice % 8) {
      case 0: options = {.thread_sensitive = true}; break;
      case 1: options.on_cancel = cancel_policy::abandon; break;
      case 2: options.on_cancel = cancel_policy::interrupt; break;
      case 3:
      case 4: options.limiter = &limiter_; break;
      default: break;
    }
    // What is abandoned outlives this coroutine, so it has nothing of it.
    // Nor does a call that holds a token wait for a lane, whose holder may wait for a token.
    const bool nests = options.on_cancel == cancel_policy::wait && !options.limiter && depth > 0 &&
                       dice / 8 % 2 == 0;
    const bool interruptible = options.on_cancel == cancel_policy::interrupt;
    auto callable = [this, &random, depth, nests, interruptible, dice] {
      ++books.begun;
      struct on_exit {
        counter& ended;
        ~on_exit() { ++ended; }
      } const at_the_end{books.ended};
      try {
        if (nests) return nested(random, depth - 1);
        if (interruptible) boost::this_thread::sleep_for(boost::chrono::microseconds(dice % 200));
        if (dice / 32 % 16 == 0) throw expected_failure();
      } catch (const boost::thread_interrupted&) {
        ++books.unwound;
        throw;
      } catch (const boost::system::system_error& e) {
        if (is_cancellation(e)) ++books.unwound;
        throw;
      }
    };
    auto wrapped = sync_to_async(callable, options);
    ++books.submitted;
    try {
      co_await wrapped();
      ++books.returned;
    } catch (const expected_failure&) {
      ++books.returned;
      throw;
    } catch (const boost::system::system_error& e) {
      ++(is_cancellation(e) ? books.aborted : books.returned);
      throw;
    }
  }

  void nested(std::minstd_rand& random, int depth) {
    const auto dice = random();
    try {
      async_to_sync([&]() -> awaitable<void> { return crossing(random, depth); },
                    {.force_new_loop = dice % 16 == 0,
                     .timeout = dice % 5 == 0 ? std::chrono::microseconds(dice / 16 % 500)
                                              : bothworlds::no_timeout})();
    } catch (const bothworlds::error& e) {
      if (e.code() != bothworlds::errc::timed_out) throw;
    }
  }

  bothworlds::worker_pool pool_{
      bothworlds::worker_pool_options{.soft_limit = soft_limit, .hard_limit = 128}};
  bothworlds::capacity_limiter limiter_{4};
  std::deque<loop_thread> drivers_;
  std::vector<std::thread> roots_;
  std::barrier<> round_begins_{sync_roots + 1};
  std::barrier<> round_ends_{sync_roots + 1};
  clock_type::time_point until_;  // written between rounds
  bool over_ = false;             // likewise
  unsigned seeds_ = 0;
};

std::size_t heap_in_use() { return ::mallinfo2().uordblks; }

std::size_t resident_memory() {
  std::size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// One thing that must hold at every checkpoint.
struct requirement {
  const char* what;
  bool held = true;
  void check(bool holds) {
    if (!holds && held) std::printf("FAILED: %s\n", what);
    held = held && holds;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::strtod(argv[1], nullptr) : 3;
  // The first rounds fill what is kept for reuse: arenas, recycled blocks, idle residents.
  constexpr int rounds = 30, warm_up = 10;
  const auto length = std::chrono::duration_cast<clock_type::duration>(
      std::chrono::duration<double>(seconds / rounds));

  requirement balance{"submitted = completed + cancelled + abandoned"};
  requirement ended{"every callable that began has ended, and ran for one reason"};
  requirement limits{"the limiter's tokens are back, and the pool's queue is empty"};
  requirement threads{"the pool is back at its soft limit"};
  requirement memory{"memory is flat"};
  std::size_t warm_heap = 0, warm_resident = 0;
  {
    soak run;
    for (int round = 1; round <= rounds; ++round) {
      run.run_round(length);
      ended.check(comes_true([&] { return run.at_rest(); }));
      threads.check(comes_true([&] { return run.pool().threads <= soft_limit; }));
      const auto pool = run.pool();
      const auto limiter = run.limiter();
      const ledger& books = run.books;
      const std::uint64_t abandoned = pool.abandoned;
      const std::uint64_t cancelled = books.aborted - abandoned;
      balance.check(abandoned <= books.aborted);
      balance.check(books.submitted == books.returned + cancelled + abandoned);
      ended.check(books.begun == books.returned + books.unwound + abandoned);
      limits.check(limiter.borrowed == 0 && limiter.queued == 0 && pool.queued == 0 &&
                   pool.blocked_in_bridge == 0);
      const std::size_t heap = heap_in_use(), resident = resident_memory();
      if (round <= warm_up) {
        warm_heap = std::max(warm_heap, heap);
        warm_resident = std::max(warm_resident, resident);
      } else {
        memory.check(heap <= warm_heap + warm_heap / 4 + (std::size_t{2} << 20));
        memory.check(resident <= warm_resident + warm_resident / 4 + (std::size_t{8} << 20));
      }
      std::printf("%2d: submitted %" PRIu64 " = completed %" PRIu64 " + cancelled %" PRIu64
                  " + abandoned %" PRIu64
                  "; heap %zu KiB, resident %zu KiB; threads %zu, compensations %" PRIu64 "\n",
                  round, books.submitted.load(), books.returned.load(), cancelled, abandoned,
                  heap >> 10, resident >> 10, pool.threads, pool.compensations);
      std::fflush(stdout);
    }
  }
  int failed = 0;
  for (const requirement& one : {balance, ended, limits, threads, memory}) failed += !one.held;
  std::printf("%d passed, %d failed\n", 5 - failed, failed);
  return failed != 0;
}
