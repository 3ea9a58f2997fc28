// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstdint>

namespace bothworlds::detail {

/// A count of owners that is told which of them come and go in the turn of one side, and counts those
/// without a locked instruction, which takes as long as twenty others.
///
/// At any time one thread at most has that side's turn, and what hands the turn on also hands on what
/// was done in it. The two counts only mean something together: an owner may come in a turn and go
/// outside of it. While there is a bias the shared count cannot come down to nothing, so the last
/// owner goes after end_bias(), and whoever that is sees what the others have done.
///
/// Source: biased reference counting (Choi, Shull, Torrellas: Biased Reference Counting: Minimizing
/// Atomic Operations in Garbage Collection, PACT 2018), with a side that changes threads in place of
/// their owner thread, and with an end of the bias that is known in place of their queue.
class biased_count {
public:
  /// In a turn, or while nobody else knows of it; once, before end_bias().
  void begin_bias() noexcept {
    biased_ = true;
    shared_.fetch_add(bias, std::memory_order_relaxed);
  }
  /// In a turn, or where no turn can come any more; by an owner.
  void end_bias() noexcept {
    biased_ = false;
    shared_.fetch_add(in_turn_ - bias, std::memory_order_acq_rel);
    in_turn_ = 0;
  }

  void add(bool in_turn) noexcept {
    if (in_turn && biased_)
      ++in_turn_;
    else
      shared_.fetch_add(1, std::memory_order_relaxed);
  }
  /// True: that was the last one.
  bool remove(bool in_turn) noexcept {
    if (in_turn && biased_) {
      --in_turn_;
      return false;
    }
    // Who finds that it is the only one stays the only one.
    return shared_.load(std::memory_order_acquire) == 1 ||
           shared_.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  /// In a turn.
  std::uint32_t owners() const noexcept {
    return in_turn_ + shared_.load(std::memory_order_acquire) - (biased_ ? bias : 0);
  }

private:
  static constexpr std::uint32_t bias = 1U << 31;  // further from 0 than any number of owners

  std::uint32_t in_turn_ = 0;  // in a turn; less than 0, as unsigned, where more have gone than come
  bool biased_ = false;        // in a turn
  std::atomic<std::uint32_t> shared_{0};  // any thread
};

}  // namespace bothworlds::detail
