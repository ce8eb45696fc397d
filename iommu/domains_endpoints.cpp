// SPDX-License-Identifier: Apache-2.0
// Endpoints: how they are added and removed, and how the memory they reach is changed. An assigned endpoint is emptied
// before it is filled with something else, and emptied again when filling fails, so it is never half filled.
#include "iommu/domains.hpp"

#include "iommu/domains_parts.hpp"
#include "iommu/reserved.hpp"

namespace inox::iommu {
namespace {

using IovaRange = Range<Iova>;

} // namespace

Result<Registration> Domains::add_endpoint(EndpointId id, std::string name, DmaMapper& mapper) {
    if ((mapper.page_sizes() & (2 * granule - 1)) == 0)
        return fail(Errc::unsupported, "the host's IOMMU cannot map single pages for " + name,
                    "assign it without --iommu");
    auto endpoint = std::make_unique<Endpoint>();
    endpoint->id = id;
    endpoint->name = std::move(name);
    endpoint->mapper = &mapper;
    endpoint->reserved = guest_reserved(mapper.reserved(), mapper.apertures(), input_);
    return add(std::move(endpoint));
}

Result<Registration> Domains::add_endpoint(EndpointId id, std::string name, EndpointMemory& memory) {
    auto endpoint = std::make_unique<Endpoint>();
    endpoint->id = id;
    endpoint->name = std::move(name);
    endpoint->memory = &memory;
    endpoint->reserved = guest_reserved({}, std::span{&input_, 1}, input_);
    return add(std::move(endpoint));
}

Result<Registration> Domains::add(std::unique_ptr<Endpoint> endpoint) {
    const bool assigned = endpoint->mapper != nullptr;
    Change change{*this, assigned ? Change::Of::hosts : Change::Of::emulated};
    const EndpointId id = endpoint->id;
    if (find(id))
        return fail(Errc::already_exists, format("the IOMMU has an endpoint %#x already", id.raw()));
    const bool shared = endpoint->mapper && std::ranges::any_of(endpoints_, [&](const auto& other) {
                            return other.second->mapper == endpoint->mapper;
                        });
    if (shared)
        return fail(Errc::unsupported, endpoint->name + " shares its IOMMU group with another device of this guest",
                    "with --iommu each assigned device needs a group of its own");
    if (endpoint->memory) {
        const auto alone = endpoint->memory->lock();
        endpoint->memory->set_id(id);
    }
    auto& added = *endpoints_.emplace(id, std::move(endpoint)).first->second; // reserves the id while the host works
    if (auto settled = settle(added, change); !settled) {
        endpoints_.erase(id);
        return std::unexpected{std::move(settled).error()};
    }
    return Registration{[this, id, assigned] { remove(id, assigned); }};
}

void Domains::remove(EndpointId id, bool assigned) {
    Change change{*this, assigned ? Change::Of::hosts : Change::Of::emulated};
    Endpoint* endpoint = find(id);
    leave_domain(*endpoint, change);
    block(*endpoint, change);
    endpoints_.erase(id);
}

/// Leaves the host's mappings of an assigned endpoint as they are: the caller changes them next.
void Domains::leave_domain(Endpoint& endpoint, Change& change) {
    Domain* domain = endpoint.domain;
    if (!domain)
        return;
    if (endpoint.memory) { // the table may be destroyed
        const auto alone = endpoint.memory->lock();
        endpoint.memory->set_view(EndpointMemory::View::blocked, nullptr);
    }
    if (endpoint.memory) {
        DmaDrain old;
        endpoint.memory->pins()->collect(IovaRange::full(), old);
        if (!old.done())
            domain->leavers.push_back({endpoint.memory->pins(), std::move(old)});
    }
    endpoint.domain = nullptr;
    std::erase(domain->endpoints, &endpoint);
    erase_if_empty(*domain, change);
}

/// To be called once nothing new can be translated through what was taken away.
void Domains::collect(const Endpoint& endpoint, IovaRange range, DmaDrain* drain) {
    if (drain && endpoint.memory)
        endpoint.memory->pins()->collect(range, *drain);
}

void Domains::collect(Domain& domain, IovaRange range, DmaDrain* drain) {
    for (const Endpoint* endpoint : domain.endpoints)
        collect(*endpoint, range, drain);
    std::erase_if(domain.leavers, [&](Domain::Leaver& leaver) {
        if (!leaver.old.done() && drain)
            leaver.pins->collect(range, *drain);
        return leaver.old.done();
    });
}

void Domains::erase_if_empty(Domain& domain, Change& change) {
    if (!domain.endpoints.empty() || domain.kept)
        return;
    mapping_count_ -= domain.table.size();
    change.drop(std::move(domains_.extract(domain.id).mapped()));
}

/// For an endpoint without a domain: it reaches all RAM or nothing.
Result<void> Domains::settle(Endpoint& endpoint, Change& change) {
    if (!bypass_) {
        block(endpoint, change);
        if (endpoint.lost)
            return fail(Errc::host_error, "the host did not remove the mappings");
        return {};
    }
    auto filled = fill_direct(endpoint, change);
    if (!filled)
        block(endpoint, change);
    return filled;
}

/// Makes the endpoint reach what its domain maps. After an error the caller blocks the endpoint.
Result<void> Domains::fill(Endpoint& endpoint, const Domain& domain, Change& change) {
    if (domain.bypass)
        return fill_direct(endpoint, change);
    if (endpoint.memory) {
        const auto alone = endpoint.memory->lock();
        endpoint.memory->set_view(EndpointMemory::View::mapped, &domain.table);
        endpoint.direct = false;
        return {};
    }
    if (!empty(endpoint, change))
        return fail(Errc::host_error, "the host did not remove the old mappings");
    endpoint.filled = domain.table.size() != 0;
    return change.ask_host([&] { // only requests change the table, and they are locked out
        Result<void> result{};
        domain.table.visit(Iova{0}, [&](const Mapping& mapping) {
            const auto host = memory_.host(mapping.physical, mapping.range.size());
            const auto access = mapping.flags;
            if (!host || access == 0)
                return true;
            result = endpoint.mapper->map(mapping.range, *host, static_cast<Access>(access));
            return result.has_value();
        });
        return result;
    });
}

Result<void> Domains::fill_direct(Endpoint& endpoint, Change& change) {
    if (endpoint.memory) {
        const auto alone = endpoint.memory->lock();
        endpoint.memory->set_view(EndpointMemory::View::direct, nullptr);
        endpoint.direct = true;
        return {};
    }
    if (endpoint.direct)
        return {};
    if (!empty(endpoint, change))
        return fail(Errc::host_error, "the host did not remove the old mappings");
    endpoint.filled = true;
    auto filled = change.ask_host([&]() -> Result<void> {
        for (const auto& region : memory_.regions()) {
            const auto range = *IovaRange::closed(Iova{region.range.start().raw()}, Iova{region.range.last().raw()});
            TRY_VOID(endpoint.mapper->map(range, region.host, Access::read_write));
        }
        return {};
    });
    endpoint.direct = filled.has_value();
    return filled;
}

/// Unmaps everything of an assigned endpoint; false when the host failed to.
bool Domains::empty(Endpoint& endpoint, Change& change) {
    endpoint.direct = false;
    if (!endpoint.filled)
        return true;
    auto unmapped = change.ask_host([&] { return endpoint.mapper->unmap(IovaRange::full()); });
    endpoint.lost = !unmapped;
    endpoint.filled = endpoint.lost;
    if (endpoint.lost)
        note_failure(endpoint, "unmap everything", unmapped.error());
    return !endpoint.lost;
}

void Domains::block(Endpoint& endpoint, Change& change) {
    if (endpoint.mapper) {
        (void)empty(endpoint, change);
        return;
    }
    const auto alone = endpoint.memory->lock();
    endpoint.memory->set_view(EndpointMemory::View::blocked, nullptr);
    endpoint.direct = false;
}

void Domains::note_failure(const Endpoint& endpoint, const char* what, const Error& error) {
    if (limiter_.allow())
        log::write(log::Level::error, "%s: the host refused (%s): %s", endpoint.name.c_str(), what,
                   error.message().c_str());
}

std::vector<EndpointReport> Domains::endpoints() const {
    using State = EndpointReport::State;
    const std::lock_guard lock{mutex_};
    std::vector<EndpointReport> out;
    for (const auto& [id, endpoint] : endpoints_) {
        EndpointReport& report = out.emplace_back();
        report.id = id;
        report.name = endpoint->name;
        report.assigned = endpoint->mapper != nullptr;
        report.state = endpoint->lost     ? State::lost
                       : endpoint->domain ? State::attached
                       : endpoint->direct ? State::bypassed
                                          : State::blocked;
        if (endpoint->domain)
            report.domain = endpoint->domain->id;
        report.reserved = endpoint->reserved;
        if (endpoint->memory)
            report.counts = endpoint->memory->counts();
    }
    return out;
}

std::vector<DomainReport> Domains::domains() const {
    const std::lock_guard lock{mutex_};
    std::vector<DomainReport> out;
    for (const auto& [id, domain] : domains_) {
        DomainReport& report = out.emplace_back();
        report.id = id;
        report.bypass = domain->bypass;
        report.mappings = domain->table.size();
        for (const Endpoint* endpoint : domain->endpoints)
            report.endpoints.push_back(endpoint->id);
    }
    return out;
}

std::optional<std::vector<Mapping>> Domains::mappings(DomainId id, Iova from, std::size_t count) const {
    const std::lock_guard lock{mutex_};
    const Domain* domain = find(id);
    if (!domain)
        return std::nullopt;
    std::vector<Mapping> out;
    if (count != 0)
        domain->table.visit(from, [&](const Mapping& mapping) {
            out.push_back(mapping);
            return out.size() < count;
        });
    return out;
}

} // namespace inox::iommu
