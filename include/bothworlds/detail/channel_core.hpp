// SPDX-License-Identifier: BSL-1.0
//
// A channel, without the type of its items.
//
// One lock guards all of it, and is held over nothing but a few instructions and the move of one
// item. What cannot be done at once becomes a channel_wait and stands in line; who makes it
// possible moves the item itself, takes the wait out of its line, writes the outcome, and wakes it
// after the lock has been let go. So an item is always in exactly one place: with its sender, in
// the buffer, or with its receiver; and a wait that still stands in line has not been served, so
// that it can be cancelled. There are waiting receivers only while the buffer is empty and nobody
// waits to send.
#pragma once

#include <bothworlds/blocking_options.hpp>
#include <bothworlds/detail/blocked_call.hpp>
#include <bothworlds/detail/spin_mutex.hpp>
#include <bothworlds/detail/suspension.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/intrusive/list.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <source_location>

namespace bothworlds::detail {

class channel_core;
class lane;

/// A send or a receive that has to wait: of a coroutine, or of a thread. Owned by the one who waits
/// and, while it stands in line or is being woken, by the channel.
class BOTHWORLDS_API channel_wait : public blocked_call, public resumes_handler<suspension> {
public:
  enum class direction : unsigned char { send, receive };
  enum class outcome : unsigned char { pending, done, closed, cancelled, timed_out, failed };

  channel_wait(ref_ptr<channel_core> channel, direction way, std::source_location where) noexcept;

  /// Blocks the calling thread, which serves its chain meanwhile, until there is an outcome.
  void block(const blocking_options& options);
  /// True: the item has changed hands; false: the channel is closed. Throws what else has ended the
  /// wait. For the one who waited, afterwards.
  bool succeeded() const;

  void request_cancel(asio::cancellation_type type) noexcept override;

protected:
  ~channel_wait() override;

  /// Where its item is: a T.
  virtual void* source() noexcept = 0;
  /// Where its item is to go: a std::optional<T>.
  virtual void* target() noexcept = 0;

private:
  friend class channel_core;
  class blocking_scope;

  const ref_counted& counted() const noexcept override { return *this; }
  void begin(asio::cancellation_slot slot) override;
  void begin_failed() noexcept override;
  void arrived(bool resumes) noexcept override;
  void orphaned() noexcept override;

  bool pending() const noexcept {
    return outcome_.load(std::memory_order_acquire) == outcome::pending;
  }
  void spin() const noexcept;
  void park(std::chrono::steady_clock::time_point deadline);
  void wake() noexcept;

  const ref_ptr<channel_core> channel_;
  const direction direction_;
  std::atomic<outcome> outcome_{
      outcome::pending};  // the channel's mutex to write; any thread reads
  const std::source_location where_;
  ref_ptr<lane> waiter_;  // the blocked thread's; null: a coroutine waits. Constant once in line
  std::exception_ptr failure_;                 // outcome::failed; the awaiting loop
  boost::intrusive::list_member_hook<> hook_;  // the channel's mutex
};

class BOTHWORLDS_API channel_core : public ref_counted {
public:
  enum class attempt : unsigned char { done, closed, would_wait, yield };

  std::size_t capacity() const noexcept { return capacity_; }
  std::size_t size() const noexcept;
  bool is_closed() const noexcept;
  /// It was made before fork(), and this is the child: its mutex may be held for ever.
  bool is_of_parent_process() const noexcept;
  void close() noexcept;
  /// Closes it for good: nobody can come for what is still in it.
  void abandon() noexcept;

protected:
  explicit channel_core(std::size_t capacity) noexcept;
  ~channel_core() override;

  /// Sends the T at `from`, or receives into the std::optional<T> at `into`, if that is possible
  /// now. A coroutine is told to `yield` every so often, so that one that never has to wait does
  /// not keep its loop to itself.
  attempt try_send(void* from, bool coroutine) noexcept;
  attempt try_receive(void* into, bool coroutine) noexcept;
  /// A thread that cannot go on now: looks for a while whether it could, before it stands in line.
  /// True: it is worth another attempt.
  bool look_out(channel_wait::direction way) noexcept;
  /// Moves all that is in the buffer to the end of the std::vector<T> at `into`, which has room for
  /// it.
  void take_buffer(void* into) noexcept;

  // With the mutex held; `from` is a T, `into` a std::optional<T>.
  virtual void store(void* from) noexcept = 0;  // at the end of the buffer, which has room
  virtual void load(void* into) noexcept = 0;   // from its beginning
  virtual void hand_over(void* from, void* into) noexcept = 0;
  virtual void load_at_end_of(
      void* into) noexcept = 0;  // of a std::vector<T>, from the buffer's beginning

private:
  friend class channel_wait;
  using line = boost::intrusive::list<
      channel_wait,
      boost::intrusive::member_hook<channel_wait, boost::intrusive::list_member_hook<>,
                                    &channel_wait::hook_>,
      boost::intrusive::constant_time_size<false>>;
  using outcome = channel_wait::outcome;
  struct aftermath;

  attempt send_now(void* from, aftermath& after) noexcept;
  attempt receive_now(void* into, aftermath& after) noexcept;
  ref_ptr<channel_wait> take_first(line& from, outcome result) noexcept;
  bool is_time_to_yield() noexcept;
  bool gathers() const noexcept { return capacity_ > 1; }
  int spin_limit() const noexcept;
  void learn_spins(bool came, int rounds, int limit) noexcept;
  void resize_to(std::size_t size) noexcept { size_.store(size, std::memory_order_relaxed); }
  void enter(channel_wait& wait) noexcept;
  bool withdraw(channel_wait& wait, outcome why) noexcept;
  void give_back(channel_wait& wait) noexcept;

  const std::size_t capacity_;
  const std::uint32_t fork_generation_;
  mutable spin_mutex mutex_;
  std::atomic<std::size_t> size_{0};  // mutex_ to write, relaxed; what is in the buffer
  unsigned unyielding_ = 0;   // mutex_; operations of coroutines since one was told to yield
  bool closed_ = false;       // mutex_
  bool abandoned_ = false;    // mutex_
  line senders_, receivers_;  // mutex_
  line given_back_;  // mutex_; receives that got an item and whose loop was gone: their items come
                     // first
  std::atomic<int>
      spins_;  // how long a thread looks for an outcome before it sleeps; learned, any thread
};

/// Suspends the coroutine and lets its wait stand in line.
struct start_channel_wait {
  template <class Handler>
  void operator()(Handler&& handler, channel_wait* wait) const noexcept {
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    wait->suspend(continuation(std::forward<Handler>(handler)), slot);
  }
};

/// What a send into a closed channel throws.
[[noreturn]] BOTHWORLDS_API void throw_channel_closed();

}  // namespace bothworlds::detail
