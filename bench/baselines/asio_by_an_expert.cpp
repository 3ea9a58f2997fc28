// SPDX-License-Identifier: BSL-1.0
#include "baselines/asio_by_an_expert.hpp"

namespace bench::asio_by_an_expert {

asio::io_context& kept_loop() {
  thread_local asio::io_context kept(1);
  return kept;
}

}  // namespace bench::asio_by_an_expert
