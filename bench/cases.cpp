// SPDX-License-Identifier: BSL-1.0
#include "cases.hpp"

namespace bench {

registry all_cases() {
  registry cases;
  add_ready_coroutine(cases);
  add_yielding_once(cases);
  add_sequential_offload(cases);
  add_many_offloads(cases);
  return cases;
}

}  // namespace bench
