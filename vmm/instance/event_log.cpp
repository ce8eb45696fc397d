// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/event_log.hpp"

namespace inox {

void EventLog::publish(std::string kind, Details details) {
    if (recent_.size() == kept)
        recent_.pop_front();
    recent_.push_back({next_sequence_++, std::chrono::system_clock::now(), std::move(kind), std::move(details)});
    tell(&recent_.back());
}

void EventLog::watch(Reader reader) {
    tell(nullptr); // drops readers that have left, also when no event happens for a long time
    readers_.push_back(std::move(reader));
}

void EventLog::tell(const Event* event) {
    std::erase_if(readers_, [&](const Reader& reader) { return !reader(event); });
}

} // namespace inox
