// SPDX-License-Identifier: BSL-1.0
#include "interruptible.hpp"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read.hpp>

#include <cerrno>
#include <system_error>

#include <sys/signalfd.h>

namespace demo {

namespace {

sigset_t both_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

void hold_signals() {
  const auto set = both_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);  // threads inherit it
}

asio::awaitable<void> until_signal() {
  const auto set = both_signals();
  const int file = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (file < 0) throw std::system_error(errno, std::system_category(), "signalfd");

  auto executor = co_await asio::this_coro::executor;
  asio::posix::stream_descriptor signals(executor, file);
  signalfd_siginfo arrived{};
  co_await asio::async_read(signals, asio::buffer(&arrived, sizeof arrived), asio::use_awaitable);
  throw interruption(static_cast<int>(arrived.ssi_signo));
}

}  // namespace demo
