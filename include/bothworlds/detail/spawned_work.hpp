// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/recycled.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <exception>
#include <memory>
#include <source_location>
#include <utility>

namespace bothworlds::detail {

namespace asio = boost::asio;

/// What spawn() runs, and the handler that it tells, without their types. Who runs it calls invoke(),
/// await_from() and, at the end of that, store(), as of an awaited_operation; then, or instead,
/// complete().
class BOTHWORLDS_API spawned_work : public recycled {
public:
  spawned_work() = default;
  virtual ~spawned_work();
  spawned_work(const spawned_work&) = delete;
  spawned_work& operator=(const spawned_work&) = delete;

  virtual void invoke(std::source_location where) = 0;
  virtual void await_from(coroutine_frame& host) = 0;
  virtual void store() = 0;
  virtual void drop_operation() noexcept = 0;
  /// Where the handler runs; `home`: where the coroutine was spawned.
  virtual asio::any_io_executor executor(const asio::any_io_executor& home) const = 0;
  /// Calls the handler with the result, or what fails() was given. On that executor, when this is all
  /// that is left; `self` goes first.
  virtual void tell(std::unique_ptr<spawned_work> self) = 0;

  void fails(std::exception_ptr why) noexcept { failure_ = std::move(why); }
  bool has_failed() const noexcept { return failure_ != nullptr; }

protected:
  std::exception_ptr take_failure() noexcept { return std::exchange(failure_, nullptr); }

private:
  std::exception_ptr failure_;
};

/// It has ended: posts what tells its handler. `home`: where it was spawned. Where memory is short it
/// waits for some.
void complete(std::unique_ptr<spawned_work> work, const asio::any_io_executor& home) noexcept;

/// Starts `work` on `executor`, with the values of the code that runs now; cancellations come from
/// `slot`. Any thread. Throws std::bad_alloc, and loop_stopped; then nothing was started.
BOTHWORLDS_API void spawn_on(const asio::any_io_executor& executor,
                             std::unique_ptr<spawned_work> work, asio::cancellation_slot slot,
                             std::source_location where);

}  // namespace bothworlds::detail
