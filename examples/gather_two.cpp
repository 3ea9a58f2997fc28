// SPDX-License-Identifier: BSL-1.0
//
// A and then B take as long as both; C and D together take as long as one of them.

#include <bothworlds/gather.hpp>
#include <bothworlds/run.hpp>
#include <bothworlds/timeout.hpp>

#include <chrono>
#include <iostream>
#include <string>
#include <tuple>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using std::chrono::milliseconds;

//! [gather_two]
asio::awaitable<std::string> fetch(std::string name) {
  co_await bothworlds::sleep_for(500ms);  // somebody else is at work
  co_return name;
}

asio::awaitable<std::string> in_a_row() {
  const std::string a = co_await fetch("A");
  const std::string b = co_await fetch("B");
  co_return a + " and " + b;
}

asio::awaitable<std::string> together() {
  const std::tuple<std::string, std::string> both =
      co_await bothworlds::gather(fetch("C"), fetch("D"));
  co_return std::get<0>(both) + " and " + std::get<1>(both);
}
//! [gather_two]

template <class Fetch>
void measure(Fetch fetch_both) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string names = bothworlds::run(fetch_both);
  const auto spent =
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
  std::cout << names << " took " << spent.count() / 10 * 10 << " ms" << std::endl;
}

int main() {
  measure(in_a_row);
  measure(together);
}
