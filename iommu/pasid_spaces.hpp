// SPDX-License-Identifier: Apache-2.0
// (endpoint, host PASID) to address space.
#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "iommu/pasid_space.hpp"

namespace iommu {

/// Thread-safe.
class PasidSpaces {
public:
    explicit PasidSpaces(const vmm::GuestMemory& memory) : memory_{memory} {}

    /// Before the first bind().
    void set_sink(PasidFaultSink sink) { sink_ = std::move(sink); }

    /// False when the pair is bound already.
    [[nodiscard]] bool bind(const PasidSpace::Name& name, const PageTable& table);
    /// Takes the binding out. The caller revokes or drains it; null when there is none.
    [[nodiscard]] std::shared_ptr<PasidSpace> unbind(EndpointId endpoint, HostPasid host);
    /// All bindings of a host PASID, revoked.
    [[nodiscard]] std::vector<std::shared_ptr<PasidSpace>> revoke_all(HostPasid host);

    /// The binding, for control.
    [[nodiscard]] std::shared_ptr<PasidSpace> space(EndpointId endpoint, HostPasid host) const;
    /// Memory for DMA as (endpoint, host PASID); null when nothing is bound.
    [[nodiscard]] std::shared_ptr<const vmm::DmaMemory> find(EndpointId endpoint, HostPasid host,
                                                             bool privileged = false) const;
    /// How many endpoints are bound to a host PASID.
    [[nodiscard]] std::size_t count(HostPasid host) const;
    [[nodiscard]] std::vector<std::shared_ptr<PasidSpace>> all() const;

private:
    static std::uint64_t key(EndpointId endpoint, HostPasid host) {
        return std::uint64_t{endpoint.raw()} << 32 | host.raw();
    }
    const vmm::GuestMemory& memory_;
    PasidFaultSink sink_{};
    mutable std::shared_mutex mutex_;
    std::unordered_map<std::uint64_t, std::shared_ptr<PasidSpace>> spaces_; // guarded by mutex_
};

} // namespace iommu
