// SPDX-License-Identifier: BSL-1.0
//
// The control: were this not to compile, the cases beside it would fail to compile for no reason of
// theirs.
//
// flavor: pass
#include <boost/asio/awaitable.hpp>

boost::asio::awaitable<int> answer() { co_return 42; }
