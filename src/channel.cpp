// SPDX-License-Identifier: BSL-1.0
#include "blocked_thread.hpp"
#include "forked_child.hpp"
#include "lane.hpp"
#include "short_wait.hpp"
#include "thread_state.hpp"

#include <bothworlds/detail/channel_core.hpp>
#include <bothworlds/detail/crossing.hpp>
#include <bothworlds/error.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/experimental/channel_error.hpp>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

namespace bothworlds::detail {
namespace {

// How many operations in a row a coroutine may do without having waited.
constexpr unsigned operations_before_yield = 64;

// Rounds of cpu_relax() between two looks at a channel with room for several items.
constexpr int shortest_pause = 8;
constexpr int longest_pause = 64;

// Below this a thread goes on looking, so that it notices when looking has become worth while.
constexpr int fewest_spins = 16;

}  // namespace

void throw_channel_closed() {
  throw boost::system::system_error(asio::experimental::error::channel_closed);
}

// --- a wait
// -------------------------------------------------------------------------------------------------

channel_wait::channel_wait(ref_ptr<channel_core> channel, direction way,
                           std::source_location where) noexcept
    : channel_(std::move(channel)), direction_(way), where_(where) {}

channel_wait::~channel_wait() = default;

/// While it lives, cancellations of the surrounding callable and of the stop token reach the wait.
/// In place before the wait stands in line, so that none is lost.
class channel_wait::blocking_scope {
public:
  blocking_scope(channel_wait& wait, crossing* caller, const std::stop_token& stop)
      : caller_(caller) {
    if (caller) caller->attach(wait);
    if (stop.stop_possible()) stop_.emplace(stop, canceller{wait});
  }
  ~blocking_scope() {
    stop_.reset();
    if (caller_ && !process_.is_of_parent()) caller_->detach();
  }
  blocking_scope(const blocking_scope&) = delete;
  blocking_scope& operator=(const blocking_scope&) = delete;

private:
  struct canceller {
    channel_wait& wait;
    void operator()() const noexcept { wait.request_cancel(asio::cancellation_type::terminal); }
  };

  crossing* const caller_;
  const process_mark process_;
  std::optional<std::stop_callback<canceller>> stop_;
};

void channel_wait::block(const blocking_options& options) {
  auto deadline = std::chrono::steady_clock::time_point::max();
  if (options.timeout != no_timeout) deadline = std::chrono::steady_clock::now() + options.timeout;
  thread_state& thread = this_thread_state();
  if (!thread.own_lane) thread.own_lane = new lane(lane::kind::of_a_thread);
  waiter_ = thread.own_lane;
  const blocking_scope scope(*this, thread.blocking ? thread.blocking->call() : nullptr,
                             options.stop);
  channel_->enter(*this);
  if (!channel_->gathers()) spin();
  if (!pending()) return;
  blocked_thread blocked(thread, *waiter_);
  while (pending()) {
    if (work* item = blocked.next()) {
      blocked.run(item);
      if (!channel_->is_of_parent_process()) continue;
      throw call_of_parent(where_);  // it still stands in the parent's line, which owns it
    }
    blocked.sleeps();
    park(deadline);
  }
}

// The quickest hand-over of a single item. Where there is room for several, look_out() came before.
void channel_wait::spin() const noexcept {
  const int limit = channel_->spin_limit();
  int rounds = 0;
  while (pending() && rounds < limit && !waiter_->has_nested()) {
    cpu_relax();
    ++rounds;
  }
  channel_->learn_spins(!pending(), rounds, limit);
}

// The one place where a thread that waits for a channel sleeps.
void channel_wait::park(std::chrono::steady_clock::time_point deadline) {
  if (deadline == std::chrono::steady_clock::time_point::max()) return waiter_->parking().park();
  if (waiter_->parking().park_until(deadline) || std::chrono::steady_clock::now() < deadline)
    return;
  if (channel_->withdraw(*this, outcome::timed_out)) intrusive_ptr_release(this);
}

bool channel_wait::succeeded() const {
  switch (outcome_.load(std::memory_order_acquire)) {
    case outcome::closed: return false;
    case outcome::cancelled: throw boost::system::system_error(asio::error::operation_aborted);
    case outcome::timed_out:
      throw error(errc::timed_out, where_,
                  direction_ == direction::send
                      ? "nobody made room in the channel within the timeout"
                      : "nothing came through the channel within the timeout",
                  "  what  nothing was taken from the channel or put into it\n");
    case outcome::failed: std::rethrow_exception(failure_);
    case outcome::pending:
    case outcome::done: break;
  }
  return true;
}

void channel_wait::request_cancel(asio::cancellation_type) noexcept {
  if (channel_->withdraw(*this, outcome::cancelled)) wake();
}

// Takes the reference of who calls it.
void channel_wait::wake() noexcept {
  if (!waiter_) return deliver();
  const ref_ptr<channel_wait> self(this, false);
  waiter_->wake();
}

void channel_wait::begin(asio::cancellation_slot slot) {
  if (slot.is_connected())
    slot.assign([self = ref_ptr<channel_wait>(this)](asio::cancellation_type type) {
      self->request_cancel(type);
    });
  channel_->enter(*this);
}

void channel_wait::begin_failed() noexcept {
  failure_ = std::current_exception();
  channel_->withdraw(*this, outcome::failed);
  intrusive_ptr_add_ref(this);
  deliver();
}

void channel_wait::arrived(bool resumes) noexcept {
  if (!resumes && direction_ == direction::receive &&
      outcome_.load(std::memory_order_acquire) == outcome::done)
    ref_ptr<channel_core>(channel_)->give_back(*this);
}

void channel_wait::orphaned() noexcept {
  if (channel_->withdraw(*this, outcome::cancelled)) intrusive_ptr_release(this);
  drop_coroutine();
}

// --- the channel
// -------------------------------------------------------------------------------------------------

/// What is left to be done once the mutex is free.
struct channel_core::aftermath {
  ref_ptr<channel_wait> woken;  // with the reference that its line has had; likewise the next
  ref_ptr<channel_wait> spent;
  ~aftermath() {
    if (woken) woken.detach()->wake();
  }
};

channel_core::channel_core(std::size_t capacity) noexcept
    : capacity_(capacity), fork_generation_(fork_generation()), spins_(spin_rounds()) {}

channel_core::~channel_core() = default;

std::size_t channel_core::size() const noexcept { return size_.load(std::memory_order_relaxed); }

bool channel_core::is_closed() const noexcept {
  const std::lock_guard lock(mutex_);
  return closed_;
}

bool channel_core::is_of_parent_process() const noexcept {
  return fork_generation_ != fork_generation();
}

int channel_core::spin_limit() const noexcept {
  return std::min(spins_.load(std::memory_order_relaxed), spin_rounds());
}

void channel_core::learn_spins(bool came, int rounds, int limit) noexcept {
  const int next = came ? std::max(limit, 4 * rounds) : std::max(limit / 2, fewest_spins);
  if (next != limit) spins_.store(next, std::memory_order_relaxed);
}

// Who stands in line gets its item by itself, and two quick threads would then go step by step, at
// the price of a trip between CPUs for each item. So a thread leaves the other one alone for longer
// and longer, and goes on with what has gathered meanwhile. It does not count as waiting yet: who
// stands in line comes first, because then the buffer is empty, or full.
bool channel_core::look_out(channel_wait::direction way) noexcept {
  if (!gathers()) return false;
  const int limit = spin_limit();
  bool came = false;
  int rounds = 0;
  for (int pause = shortest_pause; !came && rounds < limit;
       pause = std::min(2 * pause, longest_pause)) {
    for (int i = 0; i < pause; ++i) cpu_relax();
    rounds += pause;
    const std::size_t seen = size_.load(std::memory_order_relaxed);
    came = way == channel_wait::direction::send ? seen <= capacity_ / 2 : seen != 0;
  }
  learn_spins(came, rounds, limit);
  return came;
}

ref_ptr<channel_wait> channel_core::take_first(line& from, outcome result) noexcept {
  ref_ptr<channel_wait> first(&from.front(), false);
  from.pop_front();
  // From here on a thread that waits may go; `first` keeps what it waited in, and with it this
  // channel.
  first->outcome_.store(result, std::memory_order_release);
  return first;
}

bool channel_core::is_time_to_yield() noexcept {
  if (++unyielding_ <= operations_before_yield) return false;
  unyielding_ = 0;
  return true;
}

channel_core::attempt channel_core::send_now(void* from, aftermath& after) noexcept {
  if (closed_) return attempt::closed;
  if (!receivers_.empty()) {
    hand_over(from, receivers_.front().target());
    after.woken = take_first(receivers_, outcome::done);
    return attempt::done;
  }
  const std::size_t size = this->size();
  if (size == capacity_) return attempt::would_wait;
  store(from);
  resize_to(size + 1);
  return attempt::done;
}

channel_core::attempt channel_core::receive_now(void* into, aftermath& after) noexcept {
  if (!given_back_.empty()) {
    hand_over(given_back_.front().source(), into);
    after.spent = take_first(given_back_, outcome::done);
    return attempt::done;
  }
  if (const std::size_t size = this->size(); size != 0) {
    load(into);
    if (senders_.empty()) {
      resize_to(size - 1);
    } else {
      store(senders_.front().source());
      after.woken = take_first(senders_, outcome::done);
    }
    return attempt::done;
  }
  if (!senders_.empty()) {  // no buffer at all: from hand to hand
    hand_over(senders_.front().source(), into);
    after.woken = take_first(senders_, outcome::done);
    return attempt::done;
  }
  return closed_ ? attempt::closed : attempt::would_wait;
}

channel_core::attempt channel_core::try_send(void* from, bool coroutine) noexcept {
  aftermath after;
  const std::lock_guard lock(mutex_);
  if (coroutine && is_time_to_yield()) return attempt::yield;
  return send_now(from, after);
}

channel_core::attempt channel_core::try_receive(void* into, bool coroutine) noexcept {
  aftermath after;
  const std::lock_guard lock(mutex_);
  if (coroutine && is_time_to_yield()) return attempt::yield;
  return receive_now(into, after);
}

void channel_core::take_buffer(void* into) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!given_back_.empty()) return;  // comes first, by way of receive_now()
    for (std::size_t left = size(); left != 0; --left) load_at_end_of(into);
    resize_to(0);
  }
  for (;;) {
    aftermath after;
    const std::lock_guard lock(mutex_);
    if (senders_.empty() || size() == capacity_) return;
    store(senders_.front().source());
    resize_to(size() + 1);
    after.woken = take_first(senders_, outcome::done);
  }
}

void channel_core::enter(channel_wait& wait) noexcept {
  aftermath after;
  {
    const std::lock_guard lock(mutex_);
    if (wait.pending()) {
      const bool sends = wait.direction_ == channel_wait::direction::send;
      const attempt now =
          sends ? send_now(wait.source(), after) : receive_now(wait.target(), after);
      if (now == attempt::would_wait) {
        intrusive_ptr_add_ref(&wait);
        (sends ? senders_ : receivers_).push_back(wait);
        return;
      }
      const outcome result = now == attempt::done ? outcome::done : outcome::closed;
      wait.outcome_.store(result, std::memory_order_release);
    }
  }
  // A coroutine is resumed by its loop in any case.
  if (wait.waiter_) return;
  intrusive_ptr_add_ref(&wait);
  wait.deliver();
}

// True: it stood in line, and the line's reference is the caller's now.
bool channel_core::withdraw(channel_wait& wait, outcome why) noexcept {
  const std::lock_guard lock(mutex_);
  if (!wait.pending()) return false;
  const bool in_line = wait.hook_.is_linked();
  if (in_line) {
    line& from = wait.direction_ == channel_wait::direction::send ? senders_ : receivers_;
    from.erase(from.iterator_to(wait));
  }
  wait.outcome_.store(why, std::memory_order_release);
  return in_line;
}

void channel_core::give_back(channel_wait& wait) noexcept {
  aftermath after;
  const std::lock_guard lock(mutex_);
  if (!receivers_.empty()) {
    hand_over(wait.source(), receivers_.front().target());
    after.woken = take_first(receivers_, outcome::done);
  } else if (!abandoned_) {
    intrusive_ptr_add_ref(&wait);
    given_back_.push_back(wait);
  }
}

void channel_core::close() noexcept {
  for (;;) {
    // Woken, somebody may destroy the channel.
    const ref_ptr<channel_core> self(this);
    aftermath after;
    const std::lock_guard lock(mutex_);
    closed_ = true;
    if (!receivers_.empty())
      after.woken = take_first(receivers_, outcome::closed);
    else if (!senders_.empty())
      after.woken = take_first(senders_, outcome::closed);
    else
      return;
  }
}

void channel_core::abandon() noexcept {
  close();
  for (;;) {
    aftermath after;
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    if (given_back_.empty()) return;
    after.spent = take_first(given_back_, outcome::done);
  }
}

}  // namespace bothworlds::detail
