// SPDX-License-Identifier: Apache-2.0
// Accesses that the guest's IOMMU refused: counted, the latest kept, and passed on to a subscriber.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <vector>

#include "iommu/ids.hpp"
#include "vmm/base/address.hpp"
#include "vmm/base/os.hpp"
#include "vmm/memory/dma_memory.hpp"

namespace inox::iommu {

struct Fault {
    /// As on the wire (virtio 1.3, 5.13.6.9).
    enum class Reason : std::uint8_t {
        unknown = 0, ///< mapped, but to nothing that is there
        domain = 1,  ///< the endpoint is in no domain and may not bypass
        mapping = 2, ///< no mapping, or one that does not allow it
    };
    EndpointId endpoint{};
    Reason reason{Reason::unknown};
    Access access{Access::read};
    Iova address{};                    ///< the first byte that could not be reached
    std::optional<GuestPasid> pasid{}; ///< of an access with PASID, for which domains do not matter
    bool operator==(const Fault&) const = default;
};
/// "no domain", "no mapping", "no memory there".
const char* reason_text(Fault::Reason reason);

/// Thread-safe.
class Faults {
public:
    struct Entry {
        Fault fault{};
        std::uint64_t number{}; ///< 1 for the first ever
        std::chrono::system_clock::time_point time{};
    };
    static constexpr std::size_t kept = 64;
    using Listener = std::function<void(const Entry&)>;

    void report(const Fault& fault) noexcept;
    /// Called for each fault, on the thread of the access, while the endpoint's memory is held: it may neither wait
    /// nor call back.
    Registration listen(Listener listener);

    [[nodiscard]] std::uint64_t total() const;
    /// At most `kept`, oldest first.
    [[nodiscard]] std::vector<Entry> latest() const;

private:
    mutable std::mutex mutex_; // guards all below
    std::uint64_t total_{0};
    std::array<Entry, kept> ring_{};
    std::list<Listener> listeners_{};
};

} // namespace inox::iommu
