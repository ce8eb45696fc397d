// SPDX-License-Identifier: Apache-2.0
// Random requests against a simple model, with hosts that fail at every possible call. After each request the domains
// agree with the model, and each host's table has exactly what its endpoint's domain maps.
#include <map>
#include <random>
#include <set>

#include "tests/catch.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "vmm/base/log.hpp"

namespace inox::iommu_property_test {

using fakes::IommuWorld;
using iommu::DomainId;
using iommu::EndpointId;
using iommu::Status;
using W = IommuWorld;
using IovaRange = Range<Iova>;

namespace {

constexpr std::uint64_t page = W::page;
constexpr std::array endpoints{W::nvme, W::nic, W::disk, W::net};

struct ModelMapping {
    std::uint64_t last;
    std::uint64_t physical;
    std::uint32_t flags;
};
struct ModelDomain {
    bool bypass{};
    std::map<std::uint64_t, ModelMapping> mappings{}; ///< pages
    std::set<EndpointId> members{};
};

constexpr std::uint64_t registers = 0xc2000; ///< a page that is not memory

/// What 5.13.6 demands, without hosts.
struct Model {
    std::map<std::uint32_t, ModelDomain> domains{};
    std::map<EndpointId, std::uint32_t> where{};
    bool bypass{};

    void leave(EndpointId id) {
        const auto at = where.find(id);
        if (at == where.end())
            return;
        auto& domain = domains.at(at->second);
        domain.members.erase(id);
        if (domain.members.empty())
            domains.erase(at->second);
        where.erase(at);
    }
    Status attach(std::uint32_t id, EndpointId endpoint, bool as_bypass) {
        if (const auto at = domains.find(id); at != domains.end() && at->second.bypass != as_bypass)
            return Status::invalid;
        if (const auto at = where.find(endpoint); at != where.end() && at->second == id)
            return Status::ok;
        leave(endpoint);
        domains[id].bypass = as_bypass;
        domains[id].members.insert(endpoint);
        where[endpoint] = id;
        return Status::ok;
    }
    Status detach(std::uint32_t id, EndpointId endpoint) {
        const auto at = where.find(endpoint);
        if (at == where.end() || at->second != id)
            return Status::invalid;
        leave(endpoint);
        return Status::ok;
    }
    Status map(std::uint32_t id, std::uint64_t first, std::uint64_t last, std::uint64_t physical, std::uint32_t flags) {
        const auto at = domains.find(id);
        if (at == domains.end())
            return Status::no_entry;
        if (at->second.bypass || last < first)
            return Status::invalid;
        for (const auto& [start, mapping] : at->second.mappings)
            if (start <= last && first <= mapping.last)
                return Status::invalid;
        if (physical == registers)
            return Status::fault;
        at->second.mappings[first] = {last, physical, flags};
        return Status::ok;
    }
    Status unmap(std::uint32_t id, std::uint64_t first, std::uint64_t last) {
        const auto at = domains.find(id);
        if (at == domains.end())
            return Status::no_entry;
        if (at->second.bypass || last < first)
            return Status::invalid;
        auto& mappings = at->second.mappings;
        for (const auto& [start, mapping] : mappings)
            if (start <= last && first <= mapping.last && (start < first || mapping.last > last))
                return Status::range;
        std::erase_if(mappings, [&](const auto& one) { return first <= one.first && one.second.last <= last; });
        return Status::ok;
    }
};

/// Endpoints that the core blocked after a failure of their host leave the model's domains, too.
void follow(Model& model, const IommuWorld& world) {
    for (const EndpointId id : endpoints) {
        const auto report = world.report(id);
        const auto at = model.where.find(id);
        if (at != model.where.end() && !report.domain)
            model.leave(id);
    }
}

void compare(const Model& model, const IommuWorld& world) {
    const auto domains = world.domains.domains();
    REQUIRE(domains.size() == model.domains.size());
    std::size_t total = 0;
    for (const auto& domain : domains) {
        const auto& expected = model.domains.at(domain.id.raw());
        REQUIRE(domain.bypass == expected.bypass);
        REQUIRE(std::set<EndpointId>(domain.endpoints.begin(), domain.endpoints.end()) == expected.members);
        const auto mappings = *world.domains.mappings(domain.id, Iova{0}, SIZE_MAX);
        REQUIRE(mappings.size() == expected.mappings.size());
        auto at = expected.mappings.begin();
        for (const auto& mapping : mappings) {
            REQUIRE(mapping.range.start().raw() == at->first * page);
            REQUIRE(mapping.range.last().raw() == at->second.last * page + page - 1);
            REQUIRE(mapping.physical.raw() == at->second.physical * page);
            REQUIRE(mapping.flags == at->second.flags);
            ++at;
        }
        total += mappings.size();
    }
    REQUIRE(world.domains.mapping_count() == total);
    // Host tables.
    for (const auto& [id, host] : {std::pair{W::nvme, &world.nvme_host}, {W::nic, &world.nic_host}}) {
        const auto report = world.report(id);
        if (report.state == W::State::lost)
            continue;
        std::map<std::uint64_t, fakes::RecordingMapper::Held> expected;
        const auto& region = world.ram.memory.regions()[0];
        const auto at = model.where.find(id);
        const ModelDomain* domain = at == model.where.end() ? nullptr : &model.domains.at(at->second);
        if (report.state == W::State::bypassed || (domain && domain->bypass)) {
            expected.emplace(0,
                             fakes::RecordingMapper::Held{*IovaRange::closed(Iova{0}, Iova{region.range.last().raw()}),
                                                          region.host.data(), Access::read_write});
        } else if (domain) {
            for (const auto& [start, mapping] : domain->mappings)
                if ((mapping.flags & 3) != 0 && (mapping.physical + mapping.last - start) * page < region.host.size())
                    expected.emplace(start * page,
                                     fakes::RecordingMapper::Held{
                                         *IovaRange::closed(Iova{start * page}, Iova{mapping.last * page + page - 1}),
                                         region.host.data() + mapping.physical * page,
                                         static_cast<Access>(mapping.flags & 3)});
        }
        REQUIRE(host->held == expected);
        if (!domain && !model.bypass)
            REQUIRE(report.state == W::State::blocked);
    }
    // Emulated endpoints.
    for (const auto& [id, memory] : {std::pair{W::disk, world.disk_memory.get()}, {W::net, world.net_memory.get()}}) {
        const auto at = model.where.find(id);
        const ModelDomain* domain = at == model.where.end() ? nullptr : &model.domains.at(at->second);
        for (std::uint64_t probe = 0; probe < 12; ++probe) {
            std::optional<std::uint64_t> expected;
            if (domain ? domain->bypass : model.bypass)
                expected = probe;
            else if (domain)
                for (const auto& [start, mapping] : domain->mappings)
                    if (start <= probe && probe <= mapping.last && (mapping.flags & 1) != 0 &&
                        (mapping.physical + probe - start) * page < world.ram.memory.size())
                        expected = mapping.physical + (probe - start);
            REQUIRE(W::reach(world.ram, *memory, probe) == expected);
        }
    }
}

/// `fail_at`: which call of any host fails, counted over the whole run; 0 for none.
struct Run {
    IommuWorld world{};
    Model model{};
    unsigned calls{0};

    explicit Run(unsigned fail_at, bool stays_broken = false) {
        const auto fails = [this, fail_at, stays_broken] {
            ++calls;
            return fail_at != 0 && (stays_broken ? calls >= fail_at && calls < fail_at + 3 : calls == fail_at);
        };
        world.nvme_host.fails = fails;
        world.nic_host.fails = fails;
    }

    void go(unsigned seed, int steps) {
        std::mt19937 random{seed};
        const auto pick = [&](unsigned n) { return static_cast<std::uint32_t>(random() % n); };
        for (int step = 0; step < steps; ++step) {
            const std::uint32_t domain = 1 + pick(3);
            const EndpointId endpoint = endpoints[pick(4)];
            const unsigned calls_before = calls;
            Status got{};
            Status expected{};
            switch (const auto kind = pick(100); kind < 15 ? 0 : kind < 22 ? 1 : kind < 65 ? 2 : kind < 98 ? 3 : 4) {
            case 0: {
                const bool as_bypass = pick(30) == 0;
                expected = model.attach(domain, endpoint, as_bypass);
                got = world.attach(domain, endpoint, as_bypass);
                break;
            }
            case 1:
                expected = model.detach(domain, endpoint);
                got = world.detach(domain, endpoint);
                break;
            case 2: {
                const std::uint64_t first = pick(12);
                const std::uint64_t last = first + pick(3);
                const std::uint64_t physical = pick(10) == 0 ? registers : 16 + pick(64);
                const std::uint32_t flags = pick(4);
                const Model before = model;
                expected = model.map(domain, first, last, physical, flags);
                got = world.map(domain, first, last, physical, flags);
                if (got == Status::device_error && expected == Status::ok)
                    model = before; // a host refused it, so nothing has changed
                break;
            }
            case 3: {
                const std::uint64_t first = pick(4) == 0 ? 0 : pick(12);
                const std::uint64_t last = pick(4) == 0 ? 4096 : first + pick(4);
                expected = model.unmap(domain, first, last);
                got = world.unmap(domain, first, last);
                break;
            }
            default:
                if (pick(4) == 0) {
                    world.domains.reset();
                    model.domains.clear();
                    model.where.clear();
                } else {
                    model.bypass = pick(2) == 0;
                    world.domains.set_bypass(model.bypass);
                }
            }
            follow(model, world);
            CAPTURE(seed, step, calls);
            if (calls == calls_before || got != Status::device_error)
                REQUIRE(static_cast<int>(got) == static_cast<int>(expected));
            compare(model, world);
        }
    }
};

} // namespace

TEST_CASE("random requests do what the model does") {
    const auto seed = GENERATE(range(1U, 21U));
    Run{0}.go(seed, 200);
}

TEST_CASE("a host that fails once, at any call, leaves no endpoint half mapped") {
    log::set_level(log::Level::off);
    const auto seed = GENERATE(range(1U, 4U));
    Run whole{0};
    whole.go(seed, 800);
    REQUIRE(whole.calls > 40);
    for (unsigned at = 1; at <= whole.calls; ++at)
        Run{at}.go(seed, 800);
    log::set_level(log::Level::warning);
}

TEST_CASE("a host that fails three times in a row is found out, and no other endpoint suffers") {
    log::set_level(log::Level::off);
    const auto seed = GENERATE(range(1U, 3U));
    Run whole{0};
    whole.go(seed, 800);
    for (unsigned at = 1; at <= whole.calls; at += 2)
        Run{at, true}.go(seed, 800);
    log::set_level(log::Level::warning);
}

} // namespace inox::iommu_property_test
