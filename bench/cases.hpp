// SPDX-License-Identifier: BSL-1.0
//
// All cases, one file each.
#pragma once

#include "subject.hpp"

namespace bench {

void add_ready_coroutine(registry& cases);     // B1
void add_yielding_once(registry& cases);       // B2
void add_sequential_offload(registry& cases);  // B3
void add_many_offloads(registry& cases);       // B4, and the curve over calls in flight

registry all_cases();

}  // namespace bench
