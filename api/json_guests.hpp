// SPDX-License-Identifier: Apache-2.0
// Several guests as a table or as JSON: each is asked through its control API.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <sys/types.h>

namespace inox::api {

struct GuestEntry {
    std::string id{};
    pid_t pid{};
    std::string socket{}; ///< path of its control API
    std::chrono::seconds age{};
};

/// Half a second at most is waited for a guest, three for all of them; one that did not answer has the state
/// "no answer" and no more than the entry says.
std::string guests_text(std::span<const GuestEntry> guests);
/// The same as an array of {"id","pid","state","uptime_s","socket","kernel","memory_bytes","vcpus"}; null where there
/// was no answer. "kernel" is null for the built-in guest, too.
std::string guests_json(std::span<const GuestEntry> guests);

} // namespace inox::api
