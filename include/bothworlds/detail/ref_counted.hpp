// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/recycled.hpp>

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <atomic>
#include <cstdint>
#include <utility>

namespace bothworlds::detail {

/// Base of everything that more than one thread may own: an intrusive count, and recycled memory.
///
/// An object starts with no owner; put it into a `boost::intrusive_ptr` at once.
class BOTHWORLDS_API ref_counted : public recycled {
public:
  ref_counted() = default;
  ref_counted(const ref_counted&) = delete;
  ref_counted& operator=(const ref_counted&) = delete;

  /// How many owners there are; exact only where the caller knows that none can come or go.
  std::uint32_t owners() const noexcept { return owners_.load(std::memory_order_acquire); }

  friend void intrusive_ptr_add_ref(const ref_counted* object) noexcept {
    object->owners_.fetch_add(1, std::memory_order_relaxed);
  }
  friend void intrusive_ptr_release(const ref_counted* object) noexcept {
    // The last owner sees what the others wrote before they let go. Who finds that it is the only
    // one stays the only one, for nobody else could make another: no locked instruction is needed.
    if (object->owners_.load(std::memory_order_acquire) == 1 ||
        object->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      delete object;
  }

protected:
  virtual ~ref_counted();

private:
  template <class T, class... Args>
  friend boost::intrusive_ptr<T> make_counted(Args&&... args);

  mutable std::atomic<std::uint32_t> owners_{0};  // any thread
};

template <class T>
using ref_ptr = boost::intrusive_ptr<T>;

/// A new T and its first owner, which nobody else can see yet: counted without a locked
/// instruction.
template <class T, class... Args>
ref_ptr<T> make_counted(Args&&... args) {
  T* const made = new T(std::forward<Args>(args)...);
  made->owners_.store(1, std::memory_order_relaxed);
  return ref_ptr<T>(made, false);
}

}  // namespace bothworlds::detail
