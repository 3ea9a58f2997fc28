// SPDX-License-Identifier: BSL-1.0
#include "cases.hpp"

namespace bench {

registry all_cases() {
  registry cases;
  add_ready_coroutine(cases);
  add_yielding_once(cases);
  add_sequential_offload(cases);
  add_many_offloads(cases);
  add_nesting(cases);
  add_thread_sensitive(cases);
  add_back_to_the_loop(cases);
  add_long_offloads(cases);
  add_many_threads(cases);
  add_context_values(cases);
  add_gather(cases);
  add_channel_items(cases);
  add_tracking(cases);
  return cases;
}

}  // namespace bench
