// SPDX-License-Identifier: BSL-1.0
#include "aborted.hpp"
#include "describe.hpp"
#include "task_core.hpp"
#include "thread_state.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/run.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

namespace bothworlds::detail {
namespace {

const char* name_of_signal(int number) noexcept { return number == SIGINT ? "SIGINT" : "SIGTERM"; }

/// Watches for the two signals, on a thread of its own: the loop may be what is stuck.
class signal_watch {
public:
  explicit signal_watch(const async_call& main)
      : main_(main),
        signals_(context_, SIGINT, SIGTERM),
        thread_((wait(), [this] { context_.run(); })) {}
  ~signal_watch() {
    context_.stop();
    thread_.join();
  }
  signal_watch(const signal_watch&) = delete;
  signal_watch& operator=(const signal_watch&) = delete;

  std::stop_token token() const { return stop_.get_token(); }
  /// 0: none has come.
  int signal() const noexcept { return first_.load(std::memory_order_acquire); }

private:
  void wait() {
    signals_.async_wait([this](boost::system::error_code failure, int number) {
      if (failure) return;
      if (signal() != 0) end_process(number);
      first_.store(number, std::memory_order_release);
      wait();
      stop_.request_stop();
    });
  }

  [[noreturn]] void end_process(int number) const {
    std::string text = std::string("bothworlds: ") + name_of_signal(number) + ", after " +
                       name_of_signal(signal()) +
                       ": the program ends with this still running\n  main       " +
                       describe(main_.where()) + "\n" + describe_live_tasks();
    for (const leftover& each : default_pool_core().running())
      text += "  callable   " + each.name + ", for " + in_seconds(each.running_for) + "\n";
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
    std::_Exit(128 + number);
  }

  const async_call& main_;
  std::stop_source stop_;
  std::atomic<int> first_{0};  // the watching thread writes
  asio::io_context context_{1};
  asio::signal_set signals_;
  std::thread thread_;
};

/// A forked child leaves it as it is: its thread is not there, and the descriptors that it waits
/// with are the parent's, too.
struct end_of_watch {
  process_mark process;
  void operator()(signal_watch* watch) const {
    if (!process.is_of_parent()) delete watch;
  }
};

}  // namespace

void run_main(async_call& main, const run_options& options) {
  const ref_ptr<async_call> self(&main);
  async_options how;
  how.force_new_loop = true;
  std::unique_ptr<signal_watch, end_of_watch> watch;
  if (options.handle_signals) {
    watch.reset(new signal_watch(main));
    how.stop = watch->token();
  }
  main.block(how);
  const int number = watch ? watch->signal() : 0;
  if (number != 0 && (!main.failure() || is_operation_aborted(main.failure())))
    throw interrupted(number, main.where());
}

}  // namespace bothworlds::detail
