// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_service.hpp"

#include <algorithm>
#include <utility>

#include "vmm/base/bytes.hpp"
#include "vmm/base/log.hpp"

namespace inox::iommu {
namespace {

constexpr std::uint64_t table_address_bits = 0x000f'ffff'ffff'f000;

} // namespace

PasidService::PasidService(IoasidCore& core, const GuestMemory& memory, Options options)
    : core_{core}, options_{options}, spaces_{memory}, first_{options.first}, numbers_{max_ioasid + 1} {
    numbers_.take(0);
    spaces_.set_sink([this](const PasidFault& fault) {
        counters_.faults.fetch_add(1, std::memory_order_relaxed);
        if (sink_)
            sink_(fault);
    });
}

Result<std::unique_ptr<PasidService>> PasidService::create(IoasidCore& core, const GuestMemory& memory,
                                                           Options options) {
    std::unique_ptr<PasidService> service{new PasidService{core, memory, options}};
    service->table_ = TRY(PasidTable::create());
    if (const auto handed = hand_to_kernel(*service->table_); !handed)
        log::write(log::Level::debug, "%s", handed.error().what.c_str());
    auto set = core.set_alloc(options.token, options.quota);
    if (!set)
        return fail(Errc::no_resource, format("%u PASIDs cannot be had: %u are left", options.quota, core.available()),
                    "ask for fewer PASIDs");
    service->set_ = std::move(*set);
    auto cpu = core.add_notifier(service->set_, IoasidPriority::cpu, service->cpu_);
    auto spaces = core.add_notifier(service->set_, IoasidPriority::iommu, service->iommu_);
    if (!cpu || !spaces)
        return fail(Errc::internal, "a new set of PASIDs has subscribers");
    service->registrations_ = {std::move(*cpu), std::move(*spaces)};
    return service;
}

PasidService::~PasidService() {
    if (!set_)
        return;
    stop_submissions();
    reset();
    for (auto& registration : registrations_)
        registration.reset();
    (void)core_.set_free(set_); // while a device holds an id, the set stays until it is released
}

Result<Registration> PasidService::add_endpoint(EndpointId id, EndpointOptions options) {
    std::lock_guard lock{commands_};
    if (std::ranges::find(endpoints_, id, &Endpoint::id) != endpoints_.end())
        return fail(Errc::already_exists, format("endpoint %#x has PASIDs already", id.raw()));
    std::lock_guard shown{endpoints_mutex_};
    endpoints_.push_back({id, std::move(options)});
    return Registration{[this, id] { remove_endpoint(id); }};
}

/// Unlocks between two bindings, so that other commands can run.
void PasidService::remove_endpoint(EndpointId id) {
    {
        std::scoped_lock lock{commands_, endpoints_mutex_};
        std::ranges::find(endpoints_, id, &Endpoint::id)->leaving = true;
    }
    for (const auto& space : spaces_.of(id)) {
        std::lock_guard lock{commands_};
        (void)unbind_locked(id, space->name().host);
    }
    std::scoped_lock lock{commands_, endpoints_mutex_};
    std::erase_if(endpoints_, [&](const Endpoint& each) { return each.id == id; });
}

void PasidService::set_fault_sink(PasidFaultSink sink) { sink_ = std::move(sink); }

bool PasidService::may_bind(EndpointId id) const {
    const auto it = std::ranges::find(endpoints_, id, &Endpoint::id);
    return it != endpoints_.end() && it->options.refusal.empty() && !it->leaving;
}

PasidAttacher* PasidService::attacher(EndpointId id) const {
    const auto it = std::ranges::find(endpoints_, id, &Endpoint::id);
    return it == endpoints_.end() ? nullptr : it->options.attacher;
}

PasidStatus PasidService::counted(PasidStatus status, std::atomic<std::uint64_t>& done) {
    (status == PasidStatus::ok ? done : counters_.refused).fetch_add(1, std::memory_order_relaxed);
    return status;
}

IoasidResult<HostPasid> PasidService::alloc_host() {
    auto host = core_.alloc(set_, first_, HostPasid{max_ioasid});
    if (!host && first_.raw() > 1)
        host = core_.alloc(set_, HostPasid{1}, HostPasid{first_.raw() - 1});
    return host;
}

PasidStatus PasidService::alloc(GuestPasid& out, std::optional<GuestPasid> wanted, PasidWay way) {
    std::lock_guard lock{commands_};
    if (wanted && (wanted->raw() == 0 || wanted->raw() > max_ioasid))
        return counted(PasidStatus::invalid, counters_.allocations);
    const auto number = numbers_.lowest_free(wanted ? wanted->raw() : 1, wanted ? wanted->raw() : max_ioasid);
    const auto host = number ? alloc_host() : IoasidResult<HostPasid>{std::unexpected{IoasidErrc::no_space}};
    if (!host)
        return counted(PasidStatus::exhausted, counters_.allocations);
    out = GuestPasid{*number};
    if (!core_.attach_spid(set_, *host, out)) {
        core_.free(set_, *host);
        return counted(PasidStatus::failed, counters_.allocations);
    }
    numbers_.take(out.raw());
    if (way == PasidWay::requests)
        requested_.insert(out.raw());
    return counted(PasidStatus::ok, counters_.allocations);
}

PasidStatus PasidService::free(GuestPasid guest) {
    std::lock_guard lock{commands_};
    const auto host = core_.find_by_spid(set_, guest);
    if (!host)
        return counted(PasidStatus::unknown_pasid, counters_.frees);
    free_locked(guest, *host);
    return counted(PasidStatus::ok, counters_.frees);
}

void PasidService::free_locked(GuestPasid guest, HostPasid host) {
    core_.free(set_, host);
    if (const auto revoked = std::exchange(revoked_, {}); !revoked.empty())
        finish(host, revoked);
    numbers_.release(guest.raw());
    requested_.erase(guest.raw());
}

/// The spaces have left the map. Their reference is dropped when this was the host PASID's last space.
void PasidService::finish(HostPasid host, const std::vector<std::shared_ptr<PasidSpace>>& spaces) {
    for (const auto& space : spaces) {
        space->revoke();
        space->drain();
        if (auto* const of = attacher(space->name().endpoint))
            of->detach(space->name().guest);
    }
    if (!spaces_.bound(host))
        core_.put(set_, host, IoasidHolder::iommu);
}

PasidStatus PasidService::bind(EndpointId id, GuestPasid guest, const PageTable& table) {
    std::lock_guard lock{commands_};
    return counted(bind_locked(id, guest, table), counters_.binds);
}

PasidStatus PasidService::bind_locked(EndpointId id, GuestPasid guest, const PageTable& table) {
    const auto host = core_.find_by_spid(set_, guest);
    if (!host)
        return PasidStatus::unknown_pasid;
    if (!may_bind(id))
        return PasidStatus::unknown_endpoint;
    if ((table.root & ~table_address_bits) != 0)
        return PasidStatus::invalid;
    if (spaces_.space(id, *host))
        return PasidStatus::bound;
    if (!spaces_.bound(*host) && !core_.get(set_, *host, IoasidHolder::iommu))
        return PasidStatus::failed;
    (void)spaces_.bind({id, guest, *host}, table);
    auto* const of = attacher(id);
    const auto attached = of ? of->attach(guest, table) : Result<void>{};
    if (attached && core_.bind(set_, *host))
        return PasidStatus::ok;
    if (!attached && refusals_.allow())
        log::write(log::Level::warning, "%s", attached.error().what.c_str());
    finish(*host, {spaces_.unbind(id, *host)});
    return PasidStatus::failed;
}

PasidStatus PasidService::unbind(EndpointId id, GuestPasid guest) {
    std::lock_guard lock{commands_};
    const auto host = core_.find_by_spid(set_, guest);
    return counted(host ? unbind_locked(id, *host) : PasidStatus::unknown_pasid, counters_.unbinds);
}

PasidStatus PasidService::unbind_locked(EndpointId id, HostPasid host) {
    if (!spaces_.space(id, host))
        return PasidStatus::unbound;
    (void)core_.unbind(set_, host); // the last one's event removes the CPU's entry first
    finish(host, {spaces_.unbind(id, host)});
    return PasidStatus::ok;
}

PasidStatus PasidService::invalidate(EndpointId id, GuestPasid guest, std::optional<Range<Iova>> range) {
    std::lock_guard lock{commands_};
    const auto host = core_.find_by_spid(set_, guest);
    if (!host)
        return counted(PasidStatus::unknown_pasid, counters_.invalidations);
    const auto space = spaces_.space(id, *host);
    if (!space)
        return counted(PasidStatus::unbound, counters_.invalidations);
    space->invalidate(range);
    if (auto* const of = attacher(id))
        of->invalidate(guest, range);
    return counted(PasidStatus::ok, counters_.invalidations);
}

void PasidService::reset() {
    for (HostPasid from{};;) {
        const auto ids = core_.ids(set_, from);
        if (ids.empty())
            return;
        for (const auto& id : ids) {
            std::lock_guard lock{commands_};
            if (id.spid && core_.find_by_spid(set_, *id.spid) == id.id) // unless it was freed meanwhile
                free_locked(*id.spid, id.id);
        }
        from = HostPasid{ids.back().id.raw() + 1};
    }
}

void PasidService::reset_requests() {
    for (;;) {
        std::lock_guard lock{commands_};
        if (requested_.empty())
            return;
        const GuestPasid guest{*requested_.begin()};
        if (const auto host = core_.find_by_spid(set_, guest))
            free_locked(guest, *host);
        else
            requested_.erase(guest.raw());
    }
}

std::expected<Submission, PasidMiss> PasidService::submit(GuestPasid guest) noexcept {
    auto pass = gate_.enter();
    const auto host = table_->translate(guest);
    if (!host) {
        counters_.misses.fetch_add(1, std::memory_order_relaxed);
        return std::unexpected{host.error()};
    }
    counters_.submissions.fetch_add(1, std::memory_order_relaxed);
    return Submission{std::move(pass), *host};
}

void PasidService::Cpu::on_ioasid(const IoasidEvent& event, IoasidContext& context) noexcept {
    if (event.change == IoasidEvent::Change::bind && event.spid)
        service_.install(*event.spid, event.id, context);
    else if (event.change == IoasidEvent::Change::unbind || event.change == IoasidEvent::Change::free)
        service_.remove(event.id, context);
}

void PasidService::install(GuestPasid guest, HostPasid host, IoasidContext& context) {
    std::lock_guard lock{cpu_mutex_};
    if (stopped_ || !context.get(IoasidHolder::cpu))
        return;
    in_table_.emplace(host.raw(), guest);
    (void)table_->set(guest, host);
}

void PasidService::remove(HostPasid host, IoasidContext& context) {
    std::lock_guard lock{cpu_mutex_};
    const auto it = in_table_.find(host.raw());
    if (it == in_table_.end())
        return;
    (void)table_->clear(it->second);
    in_table_.erase(it);
    gate_.drain();
    table_->trim();
    context.put(IoasidHolder::cpu);
}

void PasidService::stop_submissions() {
    std::lock_guard lock{cpu_mutex_};
    stopped_ = true;
    for (const auto& [host, guest] : in_table_)
        (void)table_->clear(guest);
    gate_.drain();
    table_->trim();
    for (const auto& [host, guest] : std::exchange(in_table_, {}))
        core_.put(set_, HostPasid{host}, IoasidHolder::cpu);
}

void PasidService::Spaces::on_ioasid(const IoasidEvent& event, IoasidContext&) noexcept {
    if (event.change == IoasidEvent::Change::free)
        std::ranges::move(service_.spaces_.revoke_all(event.id), std::back_inserter(service_.revoked_));
}

IoasidResult<HostPasid> PasidService::acquire(GuestPasid guest) {
    return core_.find_by_spid(set_, guest, IoasidHolder::device);
}
IoasidResult<void> PasidService::acquire(HostPasid host) { return core_.get(set_, host, IoasidHolder::device); }
void PasidService::release(HostPasid host) { core_.put(set_, host, IoasidHolder::device); }

PasidService::Counts PasidService::counts() const {
    const auto value = [](const std::atomic<std::uint64_t>& counter) {
        return counter.load(std::memory_order_relaxed);
    };
    return {.allocations = value(counters_.allocations),
            .frees = value(counters_.frees),
            .binds = value(counters_.binds),
            .unbinds = value(counters_.unbinds),
            .invalidations = value(counters_.invalidations),
            .refused = value(counters_.refused),
            .submissions = value(counters_.submissions),
            .misses = value(counters_.misses),
            .faults = value(counters_.faults)};
}

IoasidSetInfo PasidService::set_info() const { return core_.set_info(set_); }

std::vector<IoasidInfo> PasidService::ids_after(std::size_t skip, std::size_t most) const {
    constexpr std::size_t at_once = 4096;
    HostPasid from{};
    while (skip != 0) {
        const auto skipped = core_.ids(set_, from, std::min(skip, at_once));
        if (skipped.empty())
            return {};
        skip -= skipped.size();
        from = HostPasid{skipped.back().id.raw() + 1};
    }
    return core_.ids(set_, from, most);
}

PasidService::Snapshot PasidService::snapshot(std::size_t skip, std::size_t most) const {
    Snapshot snapshot;
    snapshot.set = set_info();
    {
        std::lock_guard lock{endpoints_mutex_};
        for (const auto& [id, options, leaving] : endpoints_)
            snapshot.endpoints.push_back(
                {id, options.name, options.attacher || !options.refusal.empty(), options.refusal});
    }
    for (const auto& id : ids_after(skip, most)) {
        const auto entry = id.spid ? table_->translate(*id.spid) : PasidLookup{std::unexpected{PasidMiss{}}};
        auto& shown = snapshot.pasids.emplace_back(Pasid{id, entry && *entry == id.id, {}});
        for (const auto& space : spaces_.of(id.id))
            shown.bindings.push_back({space->name().endpoint, space->table(), space->counts()});
    }
    snapshot.table_bytes = table_->resident();
    snapshot.in_flight = gate_.in_flight();
    snapshot.counts = counts();
    return snapshot;
}

} // namespace inox::iommu
