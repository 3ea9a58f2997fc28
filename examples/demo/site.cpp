// SPDX-License-Identifier: BSL-1.0
#include "site.hpp"

#include <bothworlds/sync_to_async.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace demo {

namespace {

constexpr unsigned connections = 4;

/// Blocks its thread for as long as the sort takes: 10^6 numbers are some 80 ms.
std::uint32_t median_of_random_numbers(std::size_t count) {
  std::vector<std::uint32_t> numbers(count);
  std::generate(numbers.begin(), numbers.end(), std::mt19937(42));
  std::sort(numbers.begin(), numbers.end());
  return numbers[count / 2];
}

reply not_understood(std::string why) { return {http::status::bad_request, std::move(why) + '\n'}; }

std::string as_text(const file_record& record) {
  std::array<char, 17> hash;
  std::snprintf(hash.data(), hash.size(), "%016llx", static_cast<unsigned long long>(record.hash));
  return "name   " + record.name + "\nbytes  " + std::to_string(record.bytes) + "\nlines  " +
         std::to_string(record.lines) + "\nfnv1a  " + hash.data() + '\n';
}

bothworlds::worker_pool_options pool_of(const char* name, unsigned threads) {
  return {.soft_limit = threads, .hard_limit = threads, .name = name};
}

}  // namespace

site::site(const std::filesystem::path& database, calling how)
    : how_(how),
      index_(database, connections),
      query_pool_(pool_of("query", connections)),
      // More sorts at once than there are cores would only take turns.
      sort_pool_(pool_of("sort", std::max(1u, std::thread::hardware_concurrency()))) {}

template <class F, class... Args>
auto site::call(bothworlds::worker_pool& pool, F f, Args... args)
    -> asio::awaitable<std::invoke_result_t<F, Args...>> {
  if (how_ == calling::on_the_loop) co_return std::invoke(f, std::move(args)...);
  co_return co_await bothworlds::sync_to_async(f, {.pool = &pool})(std::move(args)...);
}

asio::awaitable<reply> site::answer(std::string target) {
  const std::string_view view = target;
  const auto path = view.substr(0, view.find('?'));
  const auto query = view.substr(std::min(path.size() + 1, view.size()));
  constexpr std::string_view work_path = "/work/";

  if (path == "/check") co_return reply{http::status::ok, "OK\n"};
  if (path.starts_with(work_path)) co_return co_await work(path.substr(work_path.size()));
  if (path == "/file") co_return co_await file(query);
  co_return reply{http::status::not_found,
                  "no such page; there are /check, /work/N and /file?name=…\n"};
}

asio::awaitable<reply> site::work(std::string_view digits) {
  unsigned exponent = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
  if (error != std::errc{} || end != digits.data() + digits.size() || exponent > most_digits)
    co_return not_understood("/work/N: N is a number from 0 to " + std::to_string(most_digits));

  std::size_t count = 1;
  for (unsigned i = 0; i < exponent; ++i) count *= 10;
  const auto median = co_await call(sort_pool_, median_of_random_numbers, count);
  co_return reply{http::status::ok, "sorted " + std::to_string(count) + " numbers, median " +
                                        std::to_string(median) + '\n'};
}

asio::awaitable<reply> site::file(std::string_view query) {
  constexpr std::string_view key = "name=";
  if (!query.starts_with(key)) co_return not_understood("/file?name=…: no name given");
  const auto name = percent_decode(query.substr(key.size()));
  if (!name) co_return not_understood("/file?name=…: a % is followed by two hexadecimal digits");

  const auto record = co_await call(query_pool_, &index_readers::find, &index_, *name);
  if (!record) co_return reply{http::status::not_found, "no file of that name in the index\n"};
  co_return reply{http::status::ok, as_text(*record)};
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view hexadecimal = "0123456789ABCDEF";
  constexpr std::string_view plain = "-._~/";
  std::string result;
  for (const char c : text) {
    const bool alphanumeric =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (alphanumeric || plain.find(c) != plain.npos) {
      result += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      result += {'%', hexadecimal[byte >> 4], hexadecimal[byte & 15]};
    }
  }
  return result;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    const auto digits = text.substr(i + 1, 2);
    unsigned char byte = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (error != std::errc{} || end != digits.data() + 2) return std::nullopt;
    result += static_cast<char>(byte);
    i += 2;
  }
  return result;
}

}  // namespace demo
