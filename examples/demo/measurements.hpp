// SPDX-License-Identifier: BSL-1.0
//
// What was measured, and the table that says so.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace demo {

class latency_list {
public:
  using duration = std::chrono::steady_clock::duration;

  void add(duration latency) { sorted_ = false, values_.push_back(latency); }
  std::size_t count() const noexcept { return values_.size(); }
  duration quantile(double q);  // the smallest value that is not below a share q of all; none: 0

private:
  std::vector<duration> values_;
  bool sorted_ = true;
};

struct page_figures {
  latency_list latencies;  // of the requests that were answered with 200
  std::uint64_t failures = 0;
};

struct load_figures {
  page_figures check, file, work;
  std::chrono::duration<double> elapsed{};
};

struct index_figures {
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;
  std::chrono::duration<double> elapsed{};
};

void print_table(std::ostream& out, const index_figures& index, load_figures on_the_loop,
                 load_figures through_sync_to_async);

/// 1234567 as "1,234,567".
std::string grouped(std::uint64_t number);

}  // namespace demo
