// SPDX-License-Identifier: BSL-1.0
// case: a portal's call takes no parameters
// expect: blocking_portal::call: give it a callable without parameters
#include <bothworlds/blocking_portal.hpp>

int main() {
  bothworlds::blocking_portal portal;
  portal.call([](int) {});
}
