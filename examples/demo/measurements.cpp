// SPDX-License-Identifier: BSL-1.0
#include "measurements.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iomanip>
#include <ostream>
#include <string_view>

namespace demo {

latency_list::duration latency_list::quantile(double q) {
  if (values_.empty()) return {};
  if (!sorted_) std::sort(values_.begin(), values_.end());
  sorted_ = true;
  const auto place = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values_.size())));
  return values_[std::clamp<std::size_t>(place, 1, values_.size()) - 1];
}

std::string grouped(std::uint64_t number) {
  auto digits = std::to_string(number);
  for (auto place = std::ssize(digits) - 3; place > 0; place -= 3)
    digits.insert(static_cast<std::size_t>(place), 1, ',');
  return digits;
}

namespace {

std::string in_milliseconds(latency_list::duration latency) {
  const double value = std::chrono::duration<double, std::milli>(latency).count();
  char text[32];
  std::snprintf(text, sizeof text, value < 10 ? "%.3f ms" : "%.1f ms", value);
  return text;
}

void print_row(std::ostream& out, std::string_view what, std::string_view left,
               std::string_view right) {
  out << "  " << std::left << std::setw(32) << what << std::right << std::setw(18) << left
      << std::setw(26) << right << '\n';
}

void print_page(std::ostream& out, std::string_view name, page_figures& left, page_figures& right,
                double left_seconds, double right_seconds) {
  const auto per_second = [](const page_figures& page, double seconds) {
    const double rate = static_cast<double>(page.latencies.count()) / seconds;
    return grouped(static_cast<std::uint64_t>(std::llround(rate)));
  };
  const auto at = [](page_figures& page, double q) {
    return page.latencies.count() == 0 ? std::string("-")
                                       : in_milliseconds(page.latencies.quantile(q));
  };
  const std::string page(name);
  print_row(out, page + "  requests per second", per_second(left, left_seconds),
            per_second(right, right_seconds));
  print_row(out, std::string(page.size(), ' ') + "  median latency", at(left, 0.5), at(right, 0.5));
  print_row(out, std::string(page.size(), ' ') + "  99th percentile", at(left, 0.99),
            at(right, 0.99));
}

std::uint64_t failures(const load_figures& figures) {
  return figures.check.failures + figures.file.failures + figures.work.failures;
}

}  // namespace

void print_table(std::ostream& out, const index_figures& index, load_figures on_the_loop,
                 load_figures through_sync_to_async) {
  auto& left = on_the_loop;
  auto& right = through_sync_to_async;
  const auto pages = [&](std::string_view name, page_figures load_figures::* page) {
    print_page(out, name, left.*page, right.*page, left.elapsed.count(), right.elapsed.count());
  };
  const std::string rule(78, '-');
  out << rule << '\n';
  print_row(out, "blocking code is called", "on the loop", "through sync_to_async");
  out << rule << '\n';
  pages("/check ", &load_figures::check);
  pages("/file  ", &load_figures::file);
  pages("/work/6", &load_figures::work);
  print_row(out, "requests that failed", std::to_string(failures(left)),
            std::to_string(failures(right)));
  out << rule << '\n'
      << "  indexed " << grouped(index.rows) << " rows, " << grouped(index.bytes) << " bytes in "
      << std::fixed << std::setprecision(1) << index.elapsed.count() << " s\n"
      << rule << '\n';
}

}  // namespace demo
