// SPDX-License-Identifier: BSL-1.0
#include "thread_stack.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>

#include <semaphore.h>
#include <unwind.h>

namespace bothworlds::detail {
namespace {

constexpr int most_frames = 128;
constexpr int patience = 1;  // seconds

// idle -> asked -> answering -> answered -> idle; or asked -> idle, when the asker gives up. The
// asker makes the first and the last step, the signal's handler the others: a signal that comes too
// late finds nothing asked.
enum class exchange { idle, asked, answering, answered };
std::atomic<exchange> the_exchange{exchange::idle};
void* frames[most_frames];  // the handler, from answering to answered; then the asker
int frame_count = 0;        // likewise
::sem_t answered;

extern "C" _Unwind_Reason_Code keep_frame(_Unwind_Context* frame, void*) {
  if (frame_count == most_frames) return _URC_END_OF_STACK;
  int interrupted = 0;
  const std::uintptr_t next = ::_Unwind_GetIPInfo(frame, &interrupted);
  frames[frame_count++] = reinterpret_cast<void*>(interrupted ? next : next - 1);
  return _URC_NO_REASON;
}

extern "C" void bothworlds_show_stack(int) {
  const int before = errno;
  exchange seen = exchange::asked;
  if (the_exchange.compare_exchange_strong(seen, exchange::answering)) {
    frame_count = 0;
    ::_Unwind_Backtrace(&keep_frame, nullptr);
    the_exchange.store(exchange::answered);
    ::sem_post(&answered);
  }
  errno = before;
}

// The highest real-time signal that nobody else handles; 0: there is none.
int take_signal() noexcept {
  // Sets up what it needs now: in the handler it may not allocate.
  ::_Unwind_Backtrace(&keep_frame, nullptr);
  ::sem_init(&answered, 0, 0);
  for (int number = SIGRTMAX; number >= SIGRTMIN; --number) {
    struct sigaction now = {};
    if (::sigaction(number, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) continue;
    struct sigaction ours = {};
    ours.sa_handler = &bothworlds_show_stack;
    ours.sa_flags = SA_RESTART;
    ::sigemptyset(&ours.sa_mask);
    if (::sigaction(number, &ours, nullptr) == 0) return number;
  }
  return 0;
}

int signal_number() noexcept {
  static const int number = take_signal();
  return number;
}

// False: it has not come in time.
bool wait_for_answer() noexcept {
  ::timespec until = {};
  ::clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += patience;
  while (::sem_clockwait(&answered, CLOCK_MONOTONIC, &until) != 0)
    if (errno != EINTR) return false;
  return true;
}

void take_late_answer() noexcept {
  while (::sem_wait(&answered) != 0 && errno == EINTR) {
  }
}

}  // namespace

void show_stack_of_this_thread() noexcept {
  if (signal_number() == 0) return;
  // The workers of a pool block every signal, and some of them turn loops.
  ::sigset_t ours;
  ::sigemptyset(&ours);
  ::sigaddset(&ours, signal_number());
  ::pthread_sigmask(SIG_UNBLOCK, &ours, nullptr);
}

std::vector<void*> stack_of(pthread_t thread) {
  std::vector<void*> stack;
  if (signal_number() == 0) return stack;
  stack.reserve(most_frames);
  exchange seen = exchange::answered;
  // One that came after the asker had given up.
  if (the_exchange.compare_exchange_strong(seen, exchange::idle)) take_late_answer();
  seen = exchange::idle;
  if (!the_exchange.compare_exchange_strong(seen, exchange::asked)) return stack;
  const bool came = ::pthread_kill(thread, signal_number()) == 0 && wait_for_answer();
  seen = exchange::asked;
  // Fails where the handler has begun. If it has not ended by now it is left to itself.
  if (the_exchange.compare_exchange_strong(seen, exchange::idle) || seen != exchange::answered)
    return stack;
  if (!came) take_late_answer();
  stack.assign(frames, frames + frame_count);
  the_exchange.store(exchange::idle);
  return stack;
}

}  // namespace bothworlds::detail
