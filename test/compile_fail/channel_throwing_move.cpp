// SPDX-License-Identifier: BSL-1.0
// case: a channel's items must move without an exception
// expect: channel<T>: moving a T must not throw, or an item could be lost: send a std::unique_ptr to it
#include <bothworlds/channel.hpp>

struct fragile {
  fragile() = default;
  fragile(fragile&&) noexcept(false) {}
};

int main() { bothworlds::channel<fragile> items(1); }
