// SPDX-License-Identifier: Apache-2.0
// What Domains is made of; for its own sources only.
#pragma once

#include <algorithm>
#include <atomic>
#include <iterator>

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
    bool kept{false};                   ///< stays although it is empty: an assigned endpoint is being filled
    /// Endpoints that left, or are gone, while I/O through this domain's mappings was under way.
    struct Leaver {
        std::shared_ptr<DmaPins> pins;
        DmaDrain old; ///< done: what it still pins has nothing to do with this domain
    };
    std::vector<Leaver> leavers{};

    [[nodiscard]] std::vector<Endpoint*> assigned() const {
        std::vector<Endpoint*> found;
        std::ranges::copy_if(endpoints, std::back_inserter(found), [](const Endpoint* one) { return one->mapper; });
        return found;
    }
};

/// The locks of one call, and what it took out of the domains.
class Domains::Change {
public:
    enum class Of : std::uint8_t { hosts, emulated };
    Change(Domains& domains, Of of)
        : hosts_{of == Of::hosts ? std::unique_lock{domains.hosts_} : std::unique_lock<std::mutex>{}},
          lock_{domains.mutex_} {}

    /// Asks a host, without the lock that others wait for.
    template <class F> auto ask_host(F&& ask) {
        lock_.unlock();
        auto answer = ask();
        lock_.lock();
        return answer;
    }
    /// It goes when the lock is released: a large table takes its time.
    void drop(std::unique_ptr<Domain> domain) { gone_.push_back(std::move(domain)); }

private:
    std::unique_lock<std::mutex> hosts_;
    std::vector<std::unique_ptr<Domain>> gone_{};
    std::unique_lock<std::mutex> lock_;
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
