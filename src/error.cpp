// SPDX-License-Identifier: BSL-1.0
#include "describe.hpp"

#include <bothworlds/error.hpp>

#include <boost/asio/error.hpp>

#include <csignal>

namespace bothworlds {
namespace {

std::string full_report(const std::source_location& where, const std::string& summary,
                        const std::string& advice) {
  std::string report = "bothworlds: " + summary + "\n  at   " + detail::describe(where) + " in " +
                       detail::without_coroutine_frame(where.function_name()) + "\n" + advice;
  if (report.back() != '\n') report += '\n';
  return report;
}

class category final : public boost::system::error_category {
public:
  const char* name() const noexcept override { return "bothworlds"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::running_loop: return "a blocking call on a thread that is running a loop";
      case errc::would_deadlock: return "the call would wait for itself";
      case errc::loop_stopped: return "the loop was stopped or destroyed";
      case errc::pool_closed: return "the pool is closed";
      case errc::queue_full: return "the queue of the pool is full";
      case errc::timed_out: return "the call timed out";
      case errc::no_context: return "no scope that could hold this";
      case errc::wrong_thread: return "the thread for this call is gone";
      case errc::forked_child: return "made before fork(), used in the child";
      case errc::task_failed: return "a task failed and nobody joined it";
      case errc::invalid_options: return "invalid options";
    }
    return "unknown error " + std::to_string(value);
  }
};

std::string one_line(const std::source_location& where, const std::string& summary) {
  return detail::describe(where) + ": " + summary;
}

}  // namespace

const boost::system::error_category& error_category() noexcept {
  // Never destroyed: an error may be looked at while the process ends.
  static const auto* const instance = new category;
  return *instance;
}

error::error(boost::system::error_code code, std::source_location where, const std::string& summary,
             const std::string& advice)
    : boost::system::system_error(code, one_line(where, summary)),
      where_(where),
      report_(std::make_shared<const std::string>(full_report(where, summary, advice))) {}

error::error(errc code, std::source_location where, const std::string& summary,
             const std::string& advice)
    : error(make_error_code(code), where, summary, advice) {}

error::error(const error&) noexcept = default;
error::~error() = default;

std::source_location error::where() const noexcept { return where_; }
std::string error::report() const { return *report_; }

misuse_error::~misuse_error() = default;

interrupted::interrupted(int signal, std::source_location where)
    : error(boost::asio::error::make_error_code(boost::asio::error::operation_aborted), where,
            std::string("the program was interrupted by ") +
                (signal == SIGINT ? "SIGINT" : "SIGTERM"),
            "  what  main's coroutine and its tasks were cancelled and have unwound\n"),
      signal_(signal) {}
interrupted::~interrupted() = default;

}  // namespace bothworlds
