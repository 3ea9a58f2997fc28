// SPDX-License-Identifier: BSL-1.0
// case: thread_bound's call wants something that takes the object
// expect: thread_bound::call: give it something that can be called with a T&
#include <bothworlds/thread_bound.hpp>

#include <string>

int main() {
  bothworlds::thread_bound<std::string> text([] { return std::string(); });
  text.call_blocking([](int) {});
}
