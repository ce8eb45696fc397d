// SPDX-License-Identifier: Apache-2.0
// (endpoint, host PASID) to address space.
#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "iommu/pasid/pasid_space.hpp"

namespace inox::iommu {

/// Thread-safe. What concerns one host PASID takes time by its own bindings, of which each endpoint has at most one,
/// however many other PASIDs are bound.
class PasidSpaces {
public:
    using Ref = std::shared_ptr<PasidSpace>;

    explicit PasidSpaces(const GuestMemory& memory) : memory_{memory} {}

    /// Before the first bind().
    void set_sink(PasidFaultSink sink) { sink_ = std::move(sink); }

    /// False when the pair is bound already.
    [[nodiscard]] bool bind(const PasidSpace::Name& name, const PageTable& table);
    /// Takes the binding out. The caller revokes or drains it; null when there is none.
    [[nodiscard]] Ref unbind(EndpointId endpoint, HostPasid host);
    /// All bindings of a host PASID, revoked.
    [[nodiscard]] std::vector<Ref> revoke_all(HostPasid host);

    /// The binding, for control.
    [[nodiscard]] Ref space(EndpointId endpoint, HostPasid host) const;
    /// Memory for DMA as (endpoint, host PASID); null when nothing is bound.
    [[nodiscard]] std::shared_ptr<const DmaMemory> find(EndpointId endpoint, HostPasid host,
                                                        bool privileged = false) const;
    /// Whether any endpoint is bound to a host PASID.
    [[nodiscard]] bool bound(HostPasid host) const;
    /// The bindings of one host PASID, ascending by endpoint.
    [[nodiscard]] std::vector<Ref> of(HostPasid host) const;
    /// The bindings of one endpoint. Looks at every binding there is.
    [[nodiscard]] std::vector<Ref> of(EndpointId endpoint) const;

private:
    const GuestMemory& memory_;
    PasidFaultSink sink_{};
    mutable std::shared_mutex mutex_;
    std::unordered_map<std::uint32_t, std::vector<Ref>> spaces_; // guarded by mutex_: by host PASID, none is empty
};

} // namespace inox::iommu
