// SPDX-License-Identifier: Apache-2.0
// What Domains is made of; for its own sources only.
#pragma once

#include <algorithm>
#include <atomic>

#include "iommu/domains.hpp"

namespace inox::iommu {

struct Domains::Endpoint {
    EndpointId id{};
    std::string name{};
    DmaMapper* mapper{};      // one of
    EndpointMemory* memory{}; // these
    std::vector<ReservedRegion> reserved{};
    Domain* domain{};
    std::atomic<bool> direct{false}; ///< reaches all RAM 1:1: it may bypass, or is in a bypass domain
    bool filled{false};              ///< the mapper may hold something
    std::atomic<bool> lost{false};   ///< the mapper holds something that it did not give back
};

struct Domains::Domain {
    DomainId id{};
    bool bypass{};
    MappingTable table{};
    std::vector<Endpoint*> endpoints{}; ///< by id, which is the order of their locks
    /// Endpoints that left, or are gone, while I/O through this domain's mappings was under way.
    struct Leaver {
        std::shared_ptr<DmaPins> pins;
        DmaDrain old; ///< done: what it still pins has nothing to do with this domain
    };
    std::vector<Leaver> leavers{};
};

/// All memory of a domain's emulated endpoints, held alone: nobody translates, nobody uses a translation. Under
/// mutex_ only.
class Domains::ViewLocks {
public:
    explicit ViewLocks(const Domain& domain) {
        for (Endpoint* endpoint : domain.endpoints)
            if (!endpoint->memory)
                continue;
            else if (!first_)
                first_ = endpoint->memory->lock();
            else
                others_.push_back(endpoint->memory->lock());
    }

private:
    std::unique_lock<std::shared_mutex> first_{}; ///< mostly the only one
    std::vector<std::unique_lock<std::shared_mutex>> others_{};
};

} // namespace inox::iommu
