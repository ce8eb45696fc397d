// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/event_log.hpp"

namespace vmm {

void EventLog::publish(std::string kind, Details details) {
    if (recent_.size() == kept)
        recent_.pop_front();
    recent_.push_back({next_sequence_++, std::chrono::system_clock::now(), std::move(kind), std::move(details)});
    for (const auto& [unused, reader] : readers_)
        reader(recent_.back());
}

Registration EventLog::subscribe(std::function<void(const Event&)> reader) {
    const auto key = next_reader_++;
    readers_.emplace(key, std::move(reader));
    return Registration{[this, key] { readers_.erase(key); }};
}

} // namespace vmm
