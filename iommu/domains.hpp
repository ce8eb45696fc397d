// SPDX-License-Identifier: Apache-2.0
// The guest's IOMMU as plain logic: endpoints, domains, and the mappings that the endpoints of a domain share
// (virtio 1.3, 5.13). virtio-iommu's queue is a front end to it; tests drive it directly.
//
// An endpoint is an assigned device, whose host address space is filled through its DmaMapper, or an emulated one,
// which asks its EndpointMemory. In no domain, it reaches all RAM 1:1 while bypass() holds, and nothing otherwise.
//
//   assigned device   auto stay = domains.add_endpoint(id, "nvme0", mapper);        // until `stay` dies
//   emulated device   auto memory = domains.make_memory();                          // the DmaMemory it works with
//                     auto stay = domains.add_endpoint(id, "disk0", *memory);       // once its address is known
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "iommu/dma_mapper.hpp"
#include "iommu/endpoint_memory.hpp"
#include "iommu/faults.hpp"
#include "iommu/ids.hpp"
#include "iommu/limits.hpp"
#include "iommu/mapping_table.hpp"
#include "iommu/wire.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/os.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {
class State;
}

namespace inox::iommu {

/// What operators see of an endpoint.
struct EndpointReport {
    enum class State : std::uint8_t {
        blocked,  ///< reaches nothing
        bypassed, ///< in no domain: reaches all RAM
        attached,
        lost, ///< the host did not take its mappings away; each request that concerns it tries again
    };
    EndpointId id{};
    std::string name{};
    bool assigned{};
    State state{State::blocked};
    std::optional<DomainId> domain{};
    std::vector<ReservedRegion> reserved{};
    EndpointMemory::Counts counts{}; ///< emulated devices only
};
struct DomainReport {
    DomainId id{};
    bool bypass{};
    std::size_t mappings{};
    std::vector<EndpointId> endpoints{};
};

/// Thread-safe. One lock serialises what may ask a host to map or unmap: requests, and the coming and going of assigned
/// endpoints. It is held however long the host takes. A second one guards all the rest, is held for moments, and is let
/// go while a host is asked: emulated endpoints come and go, and operators look, without waiting for a host. Order of
/// locks: the first, the second, endpoints' memory. Calls may wait for holds of emulated endpoints' memory, never call
/// them under one.
class Domains {
public:
    /// Mappings are whole pages of this size.
    static constexpr std::uint64_t granule = page_size;

    /// `memory` must outlive it; `bypass`: see bypass().
    Domains(const GuestMemory& memory, const Limits& limits, bool bypass);
    Domains(const Domains&) = delete;
    Domains& operator=(const Domains&) = delete;
    ~Domains();

    // Endpoints. They may come and go at any time; the registration must end before the domains do. Its end detaches
    // the endpoint and empties its host address space.

    /// The mapper is empty and must stay alive as long as the registration; the domains alone call map() and unmap(),
    /// one at a time, from any thread. While bypass() holds it is filled with all RAM here. already_exists; unsupported
    /// when the host's IOMMU cannot map pages of `granule`, or another endpoint has this mapper; or the mapper's error.
    /// This and the registration's end wait for a request under way, and for the host: not for the loop.
    Result<Registration> add_endpoint(EndpointId id, std::string name, DmaMapper& mapper);
    /// The memory must stay alive as long as the registration. already_exists. Waits for no host.
    Result<Registration> add_endpoint(EndpointId id, std::string name, EndpointMemory& memory);
    [[nodiscard]] std::unique_ptr<EndpointMemory> make_memory() {
        return std::make_unique<EndpointMemory>(memory_, faults_);
    }

    // The guest's requests, in the order of checks of 5.13.6. `flags` as on the wire. What they take away is out of
    // reach when they return; I/O that began before may still be under way, and `drain` gets it: the guest's answer has
    // to wait for that. Null: nothing pins. They wait for holds, never for I/O.

    Status attach(DomainId domain, EndpointId endpoint, bool bypass, DmaDrain* drain = nullptr);
    Status detach(DomainId domain, EndpointId endpoint, DmaDrain* drain = nullptr);
    /// `last` is the address of the last byte, as on the wire. When it returns, every assigned endpoint of the domain
    /// has the mapping, or none has.
    /// Only RAM can be mapped: registers of other devices are refused (fault).
    Status map(DomainId domain, Iova start, Iova last, Gpa physical, std::uint32_t flags);
    /// When it returned ok and `drain` is done nothing accesses memory through the mappings any more. device_error: the
    /// same, but an endpoint whose host did not obey was detached.
    Status unmap(DomainId domain, Iova start, Iova last, DmaDrain* drain = nullptr);
    /// no_entry, or ok with the addresses the endpoint cannot have mapped.
    Status probe(EndpointId endpoint, std::vector<ReservedRegion>& out) const;

    /// Whether endpoints in no domain reach all RAM 1:1.
    [[nodiscard]] bool bypass() const { return bypass_; }
    /// I/O that began before may finish as it began: there is no answer that could wait for it.
    void set_bypass(bool bypass);
    /// The guest's driver of the IOMMU is ready: has_driver() from now on.
    void driver_ready();
    /// The driver let go of the device: every endpoint is detached, every domain gone; bypass() stays (5.13.4).
    void reset(DmaDrain* drain = nullptr);
    /// The guest begins to use an endpoint's device. When it has no driver of the IOMMU and bypass() lets the device
    /// reach everything, the operator is told, once.
    void in_use(EndpointId endpoint);

    /// Bypass, domains, who is in them, and their mappings. Restoring: into domains that no driver has used yet, whose
    /// endpoints are there; all of them are emulated.
    void state(State& state);

    // Sight. Never waits for a host that maps or unmaps, however long that takes.

    [[nodiscard]] Faults& faults() { return faults_; }
    [[nodiscard]] const Faults& faults() const { return faults_; }
    [[nodiscard]] const Limits& limits() const { return limits_; }
    [[nodiscard]] bool has_driver() const { return has_driver_; }
    [[nodiscard]] Range<Iova> input_range() const { return input_; }
    [[nodiscard]] std::vector<EndpointReport> endpoints() const;
    [[nodiscard]] std::vector<DomainReport> domains() const;
    /// At most `count` mappings that start at or after `from`, in order; nullopt without such a domain.
    [[nodiscard]] std::optional<std::vector<Mapping>> mappings(DomainId domain, Iova from, std::size_t count) const;
    /// Of all domains.
    [[nodiscard]] std::size_t mapping_count() const { return mapping_count_; }

private:
    struct Endpoint;
    struct Domain;
    struct Saved;
    class ViewLocks;
    class Change;

    Result<Registration> add(std::unique_ptr<Endpoint> endpoint);
    void remove(EndpointId id, bool assigned);
    [[nodiscard]] std::vector<Saved> save() const;
    [[nodiscard]] Status restore(const Saved& saved);

    // With mutex_ held from here on. Those with a Change let go of it while a host is asked; meanwhile emulated
    // endpoints may come and go, and nothing else changes.
    [[nodiscard]] Endpoint* find(EndpointId id) const;
    [[nodiscard]] Domain* find(DomainId id) const;
    void leave_domain(Endpoint& endpoint, Change& change);
    static void collect(const Endpoint& endpoint, Range<Iova> range, DmaDrain* drain);
    static void collect(Domain& domain, Range<Iova> range, DmaDrain* drain);
    void erase_if_empty(Domain& domain, Change& change);
    Result<void> settle(Endpoint& endpoint, Change& change);
    Result<void> fill(Endpoint& endpoint, const Domain& domain, Change& change);
    Result<void> fill_direct(Endpoint& endpoint, Change& change);
    bool empty(Endpoint& endpoint, Change& change);
    void block(Endpoint& endpoint, Change& change);
    [[nodiscard]] bool reserved_overlap(const Domain& domain, Range<Iova> range) const;
    [[nodiscard]] Status map_hosts(Domain& domain, const Mapping& mapping, Change& change);
    void note_failure(const Endpoint& endpoint, const char* what, const Error& error);

    const GuestMemory& memory_;
    const Limits limits_;
    const Range<Iova> input_;
    Faults faults_{};
    log::Throttle limiter_{2};

    std::mutex hosts_;         // for what may ask a host: see the class
    mutable std::mutex mutex_; // guards all below
    std::atomic<bool> bypass_;
    std::atomic<bool> has_driver_{false};
    bool told_no_driver_{false};
    std::map<EndpointId, std::unique_ptr<Endpoint>> endpoints_;
    std::map<DomainId, std::unique_ptr<Domain>> domains_;
    std::atomic<std::size_t> mapping_count_{0};
};

} // namespace inox::iommu
