// SPDX-License-Identifier: BSL-1.0
//
// How far the indexing has come, for people who watch.
#pragma once

#include "indexer.hpp"

#include <boost/asio/awaitable.hpp>

namespace demo {

/// Draws a bar on standard output ten times a second, on a terminal; otherwise prints a line at
/// each quarter. Never returns by itself: run it alongside index_tree, which ends it.
asio::awaitable<void> show_progress(const index_progress& progress);

}  // namespace demo
