// SPDX-License-Identifier: Apache-2.0
// Domains as values: what is restored comes back by the guest's own requests, with all their checks.
#include "iommu/domains.hpp"

#include <span>

#include "iommu/domains_parts.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/state.hpp"

namespace inox::iommu {
namespace {

/// A mapping as bytes: first address, last address, and the physical address with the flags in its low bits.
constexpr std::size_t packed_size = 24;
constexpr std::uint64_t flag_bits = Domains::granule - 1;

void pack(std::span<std::byte> out, const Mapping& mapping) {
    store_le(out.subspan(0, 8), mapping.range.start().raw());
    store_le(out.subspan(8, 8), mapping.range.last().raw());
    store_le(out.subspan(16, 8), mapping.physical.raw() | mapping.flags);
}

} // namespace

struct Domains::Saved {
    struct Member {
        std::uint32_t endpoint{};
    };
    std::uint32_t id{};
    bool bypass{};
    std::vector<Member> members{};
    std::vector<std::byte> mappings{};
};

std::vector<Domains::Saved> Domains::save() const {
    const std::lock_guard lock{mutex_};
    std::vector<Saved> all;
    for (const auto& [id, domain] : domains_) {
        Saved& saved = all.emplace_back();
        saved.id = id.raw();
        saved.bypass = domain->bypass;
        for (const Endpoint* endpoint : domain->endpoints)
            saved.members.push_back({endpoint->id.raw()});
        saved.mappings.resize(domain->table.size() * packed_size);
        std::size_t at = 0;
        domain->table.visit(Iova{0}, [&](const Mapping& mapping) {
            pack(std::span{saved.mappings}.subspan(at, packed_size), mapping);
            at += packed_size;
            return true;
        });
    }
    return all;
}

Status Domains::restore(const Saved& saved) {
    for (const auto& member : saved.members)
        if (const Status status = attach(DomainId{saved.id}, EndpointId{member.endpoint}, saved.bypass);
            status != Status::ok)
            return status;
    for (std::span rest{saved.mappings}; !rest.empty(); rest = rest.subspan(packed_size)) {
        const auto physical = load_le<std::uint64_t>(rest.subspan(16, 8));
        const Status status = map(DomainId{saved.id}, Iova{load_le<std::uint64_t>(rest.subspan(0, 8))},
                                  Iova{load_le<std::uint64_t>(rest.subspan(8, 8))}, Gpa{physical & ~flag_bits},
                                  static_cast<std::uint32_t>(physical & flag_bits));
        if (status != Status::ok)
            return status;
    }
    return Status::ok;
}

void Domains::state(State& state) {
    auto saved = save();
    bool bypass = bypass_;
    bool has_driver = has_driver_;
    state.version(1);
    state.flag("bypass", bypass);
    state.flag("has_driver", has_driver);
    state.check(saved.empty(), "this IOMMU has been used already");
    state.list("domains", saved, limits_.domains, [this](State& one, Saved& domain) {
        one.number("id", domain.id);
        one.flag("bypass", domain.bypass);
        one.list("endpoints", domain.members, std::size_t{1} << 16,
                 [](State& inner, Saved::Member& member) { inner.number("id", member.endpoint); });
        one.bytes("mappings", domain.mappings, limits_.mappings * packed_size);
        one.check(domain.mappings.size() % packed_size == 0, "a part of a mapping");
    });
    if (!state.restores() || !state.ok())
        return;
    set_bypass(bypass);
    if (has_driver)
        driver_ready();
    for (const Saved& domain : saved)
        state.check(restore(domain) == Status::ok, "a domain that this machine's IOMMU cannot have");
}

} // namespace inox::iommu
