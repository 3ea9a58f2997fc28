// SPDX-License-Identifier: BSL-1.0
//
// How a call ends, as a value that can be compared: its result, or which exception.
#pragma once

#include <bothworlds/error.hpp>

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace bothworlds::testing::random_program {

/// Counts what lives. What has been moved from holds nothing any more, and does not count.
class instance {
public:
  instance() noexcept { live_.fetch_add(1, std::memory_order_relaxed); }
  instance(const instance& other) noexcept : counts_(other.counts_) {
    if (counts_) live_.fetch_add(1, std::memory_order_relaxed);
  }
  instance(instance&& other) noexcept : counts_(std::exchange(other.counts_, false)) {}
  instance& operator=(const instance&) = delete;
  ~instance() {
    if (counts_) live_.fetch_sub(1, std::memory_order_relaxed);
  }
  static long live() noexcept { return live_.load(std::memory_order_relaxed); }

private:
  static inline std::atomic<long> live_{0};
  bool counts_ = true;
};

/// A result, or an argument: counted, only movable, without a default constructor.
class counted {
public:
  explicit counted(std::uint64_t value) : value_(value) {}
  counted(counted&&) noexcept = default;
  counted& operator=(counted&&) = delete;
  std::uint64_t value() const { return value_; }

private:
  std::uint64_t value_;
  instance alive_;
};

// What nodes throw.
struct plain_exception {
  std::uint64_t what;
};
class counted_exception : public std::logic_error {
public:
  explicit counted_exception(std::uint64_t what) : logic_error("counted"), what_(what) {}
  std::uint64_t id() const { return what_; }

private:
  std::uint64_t what_;
  instance alive_;
};

enum class ending : unsigned {
  value,
  number,
  plain,
  message,
  counted,
  system,
  aborted,
  timed_out,
  other
};
constexpr unsigned all_endings = (1U << (static_cast<unsigned>(ending::other) + 1)) - 1;

struct outcome {
  ending how = ending::value;
  std::uint64_t what = 0;
  friend bool operator==(const outcome&, const outcome&) = default;
};

constexpr std::uint64_t mix(std::uint64_t so_far, std::uint64_t next) {
  std::uint64_t x = so_far * 0x9e3779b97f4a7c15ULL + next;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9ULL;
  return x ^ (x >> 32);
}
/// What a caller makes of a call's end that it does not pass on.
constexpr std::uint64_t mix(std::uint64_t so_far, outcome end) {
  return mix(mix(so_far, static_cast<std::uint64_t>(end.how)), end.what);
}

/// What raise() throws, as it will be seen.
inline outcome raised(ending how, std::uint64_t id) {
  if (how == ending::aborted) return {how, 0};
  return {how, how == ending::system ? id % 100 + 1 : id};
}

[[noreturn]] inline void raise(ending how, std::uint64_t id) {
  switch (how) {
    case ending::number: throw static_cast<int>(id);
    case ending::plain: throw plain_exception{id};
    case ending::message: throw std::runtime_error(std::to_string(id));
    case ending::counted: throw counted_exception(id);
    case ending::system:
      throw boost::system::system_error(static_cast<int>(raised(how, id).what),
                                        boost::system::generic_category());
    default: throw boost::system::system_error(boost::asio::error::operation_aborted);
  }
}

/// Null: `value`. "other" is what no node and no cancellation throws.
inline outcome outcome_of(const std::exception_ptr& failure, std::uint64_t value = 0) {
  if (!failure) return {ending::value, value};
  try {
    std::rethrow_exception(failure);
  } catch (int number) {
    return {ending::number, static_cast<std::uint64_t>(number)};
  } catch (const plain_exception& e) {
    return {ending::plain, e.what};
  } catch (const counted_exception& e) {
    return {ending::counted, e.id()};
  } catch (const bothworlds::error& e) {
    return {e.code() == errc::timed_out ? ending::timed_out : ending::other,
            static_cast<std::uint64_t>(e.code().value())};
  } catch (const boost::system::system_error& e) {
    if (e.code() == boost::asio::error::operation_aborted) return {ending::aborted, 0};
    if (e.code().category() != boost::system::generic_category()) return {ending::other, 1000};
    return {ending::system, static_cast<std::uint64_t>(e.code().value())};
  } catch (const std::runtime_error& e) {
    return {ending::message, std::stoull(e.what())};
  } catch (...) {
    return {ending::other, 1001};
  }
}

inline std::string to_string(outcome end) {
  constexpr const char* names[] = {"value",  "number",  "plain",     "message", "counted",
                                   "system", "aborted", "timed_out", "other"};
  return std::string(names[static_cast<unsigned>(end.how)]) + " " + std::to_string(end.what);
}

}  // namespace bothworlds::testing::random_program
