// SPDX-License-Identifier: Apache-2.0
#include "iommu/faults.hpp"

#include <algorithm>
#include <iterator>

namespace inox::iommu {

const char* reason_text(Fault::Reason reason) {
    switch (reason) {
    case Fault::Reason::domain:
        return "no domain";
    case Fault::Reason::mapping:
        return "no mapping";
    case Fault::Reason::unknown:
        break;
    }
    return "no memory there";
}

void Faults::report(const Fault& fault) noexcept {
    const std::lock_guard lock{mutex_};
    Entry& entry = ring_[total_++ % kept];
    entry = {fault, total_, std::chrono::system_clock::now()};
    for (const auto& listener : listeners_)
        listener(entry);
}

Registration Faults::listen(Listener listener) {
    const std::lock_guard lock{mutex_};
    const auto place = listeners_.insert(listeners_.end(), std::move(listener));
    return Registration{[this, place] {
        const std::lock_guard again{mutex_};
        listeners_.erase(place);
    }};
}

std::uint64_t Faults::total() const {
    const std::lock_guard lock{mutex_};
    return total_;
}

std::vector<Faults::Entry> Faults::latest() const {
    const std::lock_guard lock{mutex_};
    const std::uint64_t count = std::min<std::uint64_t>(total_, kept);
    std::vector<Entry> out;
    for (std::uint64_t number = total_ - count; number < total_; ++number)
        out.push_back(ring_[number % kept]);
    return out;
}

} // namespace inox::iommu
