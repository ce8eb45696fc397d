// SPDX-License-Identifier: Apache-2.0
// The guest's requests. Their effects on an endpoint's view of memory are in domains_endpoints.cpp.
#include "iommu/domains.hpp"

#include "iommu/domains_parts.hpp"
#include "iommu/reserved.hpp"

namespace inox::iommu {
namespace {

using IovaRange = Range<Iova>;

Status status_of(const Error& error) {
    return error.code == Errc::no_resource ? Status::no_memory : Status::device_error;
}

IovaRange range_of_bits(unsigned bits) {
    const unsigned used = std::clamp(bits, 32U, 64U);
    return *IovaRange::closed(Iova{0}, Iova{~std::uint64_t{0} >> (64 - used)});
}

} // namespace

Domains::Domains(const GuestMemory& memory, const Limits& limits, bool bypass)
    : memory_{memory}, limits_{limits}, input_{range_of_bits(limits.address_bits)}, bypass_{bypass} {}

Domains::~Domains() = default;

Domains::Endpoint* Domains::find(EndpointId id) const {
    const auto found = endpoints_.find(id);
    return found == endpoints_.end() ? nullptr : found->second.get();
}

Domains::Domain* Domains::find(DomainId id) const {
    const auto found = domains_.find(id);
    return found == domains_.end() ? nullptr : found->second.get();
}

Status Domains::attach(DomainId domain_id, EndpointId endpoint_id, bool bypass, DmaDrain* drain) {
    Change change{*this, Change::Of::hosts};
    Endpoint* endpoint = find(endpoint_id);
    if (!endpoint)
        return Status::no_entry;
    if (domain_id > limits_.last_domain)
        return Status::range;
    Domain* domain = find(domain_id);
    if (domain) {
        if (domain->bypass != bypass)
            return Status::invalid;
        if (endpoint->domain == domain)
            return Status::ok;
        // The domain has mappings where this endpoint has reserved regions.
        if (std::ranges::any_of(endpoint->reserved,
                                [&](const ReservedRegion& region) { return domain->table.overlaps(region.range); }))
            return Status::unsupported;
    } else {
        const bool frees_one = endpoint->domain && endpoint->domain->endpoints.size() == 1;
        if (domains_.size() - (frees_one ? 1 : 0) >= limits_.domains)
            return Status::no_memory;
    }
    leave_domain(*endpoint, change);
    if (endpoint->memory) {
        block(*endpoint, change); // without a domain it may have reached everything
        collect(*endpoint, IovaRange::full(), drain);
    }
    if (!domain) {
        auto made = std::make_unique<Domain>();
        made->id = domain_id;
        made->bypass = bypass;
        domain = made.get();
        domains_.emplace(domain_id, std::move(made));
    }
    domain->kept = true;
    auto filled = fill(*endpoint, *domain, change);
    domain->kept = false;
    if (!filled) {
        note_failure(*endpoint, "attach", filled.error());
        block(*endpoint, change);
        erase_if_empty(*domain, change);
        return status_of(filled.error());
    }
    endpoint->domain = domain;
    auto& members = domain->endpoints;
    members.insert(std::ranges::upper_bound(members, endpoint->id, {}, &Endpoint::id), endpoint);
    return Status::ok;
}

Status Domains::detach(DomainId domain_id, EndpointId endpoint_id, DmaDrain* drain) {
    Change change{*this, Change::Of::hosts};
    Endpoint* endpoint = find(endpoint_id);
    if (!endpoint)
        return Status::no_entry;
    if (!endpoint->domain || endpoint->domain->id != domain_id)
        return Status::invalid;
    leave_domain(*endpoint, change);
    collect(*endpoint, IovaRange::full(), drain);
    if (auto settled = settle(*endpoint, change); !settled) {
        note_failure(*endpoint, "detach", settled.error());
        return status_of(settled.error());
    }
    return Status::ok;
}

Status Domains::map(DomainId domain_id, Iova start, Iova last, Gpa physical, std::uint32_t flags) {
    if ((flags & ~(wire::map_read | wire::map_write)) != 0)
        return Status::invalid;
    Change change{*this, Change::Of::hosts};
    Domain* domain = find(domain_id);
    if (!domain)
        return Status::no_entry;
    if (domain->bypass || last <= start)
        return Status::invalid;
    // last + 1 wraps to 0 at the end of the space, which is aligned.
    if (!is_aligned(start.raw() | (last.raw() + 1) | physical.raw(), granule))
        return Status::range;
    const auto range = *IovaRange::closed(start, last);
    if (!input_.contains(range) || physical.raw() + range.size_minus_one() < physical.raw())
        return Status::range;
    const auto place = domain->table.free_place(range);
    if (!place || reserved_overlap(*domain, range))
        return Status::invalid;
    if (mapping_count_ >= limits_.mappings)
        return Status::no_memory;
    const Mapping mapping{range, physical, flags};
    if (const Status status = map_hosts(*domain, mapping, change); status != Status::ok)
        return status;
    // Nobody holds a translation of this range, but somebody may be reading the table.
    const ViewLocks views{*domain};
    domain->table.insert(*place, mapping);
    ++mapping_count_;
    return Status::ok;
}

Status Domains::unmap(DomainId domain_id, Iova start, Iova last, DmaDrain* drain) {
    Change change{*this, Change::Of::hosts};
    Domain* domain = find(domain_id);
    if (!domain)
        return Status::no_entry;
    const auto range = IovaRange::closed(start, last);
    if (domain->bypass || !range)
        return Status::invalid;
    const auto inside = domain->table.inside(*range);
    if (inside.cut)
        return Status::range;
    if (inside.extent) {
        const ViewLocks views{*domain};
        mapping_count_ -= domain->table.erase(inside);
        for (const Endpoint* endpoint : domain->endpoints)
            if (endpoint->memory)
                endpoint->memory->forget(*inside.extent);
    }
    // Also where nothing is mapped, because an earlier UNMAP may still wait for the same I/O.
    collect(*domain, *range, drain);
    if (!inside.extent)
        return Status::ok;
    const IovaRange extent = *inside.extent;
    std::vector<Endpoint*> disobeyed;
    for (Endpoint* endpoint : domain->assigned()) {
        if (auto unmapped = change.ask_host([&] { return endpoint->mapper->unmap(extent); }); !unmapped) {
            note_failure(*endpoint, "unmap", unmapped.error());
            disobeyed.push_back(endpoint);
        }
    }
    for (Endpoint* endpoint : disobeyed) { // the last endpoint to leave destroys the domain
        leave_domain(*endpoint, change);
        block(*endpoint, change);
    }
    return disobeyed.empty() ? Status::ok : Status::device_error;
}

Status Domains::probe(EndpointId id, std::vector<ReservedRegion>& out) const {
    const std::lock_guard lock{mutex_};
    const Endpoint* endpoint = find(id);
    if (!endpoint)
        return Status::no_entry;
    out = endpoint->reserved;
    return Status::ok;
}

bool Domains::reserved_overlap(const Domain& domain, IovaRange range) const {
    return std::ranges::any_of(domain.endpoints, [&](const Endpoint* endpoint) {
        return std::ranges::any_of(endpoint->reserved,
                                   [&](const ReservedRegion& region) { return region.range.overlaps(range); });
    });
}

/// Maps for every assigned endpoint, or for none.
Status Domains::map_hosts(Domain& domain, const Mapping& mapping, Change& change) {
    const auto physical =
        Range<Gpa>::closed(mapping.physical, Gpa{mapping.physical.raw() + mapping.range.size_minus_one()});
    const auto host = memory_.host(*physical);
    if (!host) // perhaps the registers of another device, which no endpoint could reach
        return Status::fault;
    const auto access = mapping.flags;
    if (access == 0)
        return Status::ok;
    const auto endpoints = domain.assigned();
    for (auto endpoint = endpoints.begin(); endpoint != endpoints.end(); ++endpoint) {
        (*endpoint)->filled = true;
        auto mapped = change.ask_host(
            [&] { return (*endpoint)->mapper->map(mapping.range, *host, static_cast<Access>(access)); });
        if (mapped)
            continue;
        note_failure(**endpoint, "map", mapped.error());
        for (auto other = endpoints.begin(); other != endpoint; ++other)
            if (auto undone = change.ask_host([&] { return (*other)->mapper->unmap(mapping.range); }); !undone) {
                note_failure(**other, "undo of a map", undone.error());
                leave_domain(**other, change);
                block(**other, change);
            }
        return status_of(mapped.error());
    }
    return Status::ok;
}

void Domains::set_bypass(bool bypass) {
    Change change{*this, Change::Of::hosts};
    if (bypass_.exchange(bypass) == bypass)
        return;
    for (const auto& [id, endpoint] : endpoints_)
        if (!endpoint->domain)
            if (auto settled = settle(*endpoint, change); !settled)
                note_failure(*endpoint, "bypass", settled.error());
}

void Domains::driver_ready() {
    const std::lock_guard lock{mutex_};
    has_driver_ = true;
}

void Domains::in_use(EndpointId id) {
    const std::lock_guard lock{mutex_};
    const Endpoint* endpoint = find(id);
    if (!endpoint || has_driver_ || !bypass_ || std::exchange(told_no_driver_, true))
        return;
    log::write(log::Level::warning,
               "IOMMU: the guest uses %s and has no driver for its IOMMU: its devices are not confined, each reaches "
               "all guest memory (its kernel needs CONFIG_VIRTIO_IOMMU; --iommu bypass=off stops such devices)",
               endpoint->name.c_str());
}

void Domains::reset(DmaDrain* drain) {
    Change change{*this, Change::Of::hosts};
    has_driver_ = false;
    for (const auto& [id, endpoint] : endpoints_) {
        // Collects pins of earlier requests, too, even if nobody waits for their answers any more.
        if (!endpoint->domain) {
            collect(*endpoint, IovaRange::full(), drain);
            continue;
        }
        leave_domain(*endpoint, change);
        collect(*endpoint, IovaRange::full(), drain);
        if (auto settled = settle(*endpoint, change); !settled)
            note_failure(*endpoint, "reset", settled.error());
    }
}

} // namespace inox::iommu
