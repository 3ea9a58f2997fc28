// SPDX-License-Identifier: BSL-1.0
#include <bothworlds/config.hpp>
#include <bothworlds/detail/asio_internals.hpp>

#include <boost/asio/detail/scheduler.hpp>
#include <boost/asio/detail/thread_context.hpp>
#include <boost/asio/detail/thread_info_base.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/version.hpp>

#include <memory>
#include <new>

static_assert(BOOST_VERSION >= 108100, "bothworlds needs Boost 1.81 or newer");

namespace bothworlds::detail {
namespace {

namespace asio_detail = boost::asio::detail;
using thread_info = asio_detail::thread_info_base;
using scheduler = asio_detail::scheduler;

// Derived from, because Asio keeps its call stack protected.
struct call_stack_access : asio_detail::thread_context {
  using entry = thread_call_stack::context;
};

// The key of our own entries: no scheduler has this address, so Asio never takes us for one of its
// loops.
asio_detail::thread_context& our_key() noexcept {
  static call_stack_access key;
  return key;
}

scheduler& as_scheduler(void* erased) noexcept { return *static_cast<scheduler*>(erased); }

}  // namespace

BOTHWORLDS_NOINLINE const void* innermost_running_loop() noexcept {
  return asio_detail::thread_context::top_of_thread_call_stack();
}

loop_memory::loop_memory() {
  static_assert(sizeof(thread_info) <= sizeof storage_);
  new (storage_) thread_info;
}

loop_memory::~loop_memory() {
  std::destroy_at(std::launder(reinterpret_cast<thread_info*>(storage_)));
}

BOTHWORLDS_NOINLINE void running_loop_scope::enter(loop_memory& memory) noexcept {
  static_assert(sizeof(call_stack_access::entry) <= sizeof storage_);
  new (storage_) call_stack_access::entry(
      &our_key(), *std::launder(reinterpret_cast<thread_info*>(memory.storage_)));
}

BOTHWORLDS_NOINLINE void running_loop_scope::leave() noexcept {
  std::destroy_at(std::launder(reinterpret_cast<call_stack_access::entry*>(storage_)));
}

scheduler_ref::scheduler_ref(boost::asio::execution_context& context) {
  if (boost::asio::has_service<scheduler>(context))
    scheduler_ = &boost::asio::use_service<scheduler>(context);
}

bool scheduler_ref::stopped() const { return as_scheduler(scheduler_).stopped(); }
void scheduler_ref::work_started() const noexcept { as_scheduler(scheduler_).work_started(); }
void scheduler_ref::work_finished() const noexcept { as_scheduler(scheduler_).work_finished(); }

}  // namespace bothworlds::detail
