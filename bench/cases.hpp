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
void add_nesting(registry& cases);             // B5
void add_thread_sensitive(registry& cases);    // B7
void add_back_to_the_loop(registry& cases);    // B8
void add_long_offloads(registry& cases);       // B9
void add_many_threads(registry& cases);        // B10, and the curve over threads
void add_context_values(registry& cases);
void add_gather(registry& cases);         // B12
void add_channel_items(registry& cases);  // B13
void add_tracking(registry& cases);       // B14

registry all_cases();

}  // namespace bench
