// SPDX-License-Identifier: Apache-2.0
// Events to a client, a line of JSON each.
#pragma once

#include <cstdint>
#include <memory>

#include "api/http.hpp"
#include "vmm/instance/event_log.hpp"

namespace inox::api {

/// Those after number `since`, and new ones as long as the reader reads. Answers with a refusal when there are too many
/// readers. On the log's thread.
void stream_events(EventLog& events, const std::shared_ptr<Exchange>& exchange, std::uint64_t since);

} // namespace inox::api
