// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/assigned_devices.hpp"

#include <algorithm>
#include <utility>

#include "devices/vfio/pasid_attach.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/thread_failure.hpp"

namespace inox {

using devices::vfio::Device;
using devices::vfio::PasidAttach;
using devices::vfio::PciFunction;

AssignedDevices::AssignedDevices(AssignedContext context)
    : context_{std::move(context)}, session_{{.add_to_kvm = context_.add_to_kvm,
                                              .on_unreachable =
                                                  [this] {
                                                      // The guest places the BARs of all devices in one go.
                                                      sum_up_ = context_.loop.after(std::chrono::seconds{1}, [this] {
                                                          session_.tell_unreachable();
                                                      });
                                                  }},
                                             context_.kernel,
                                             context_.root} {}

AssignedDevices::~AssignedDevices() { stop(); }

Result<void> AssignedDevices::open(std::span<const VfioConfig* const> devices) {
    for (const auto* device : devices)
        opened_[device->open.id] = TRY(Device::open(session_, device->open));
    return {};
}

Result<std::unique_ptr<Device>> AssignedDevices::take(const VfioConfig& config) {
    if (auto node = opened_.extract(config.open.id))
        return std::move(node.mapped());
    return Device::open(session_, config.open);
}

Result<void> AssignedDevices::register_ram() {
    if (registered_)
        return {};
    for (const auto& region : context_.memory.regions())
        TRY_VOID(session_.add_ram(region));
    registered_ = true;
    return {};
}

/// The guest may give each device behind its IOMMU a view of its own; the host has one for the whole group.
Result<void> AssignedDevices::check_alone(const Device& device) const {
    for (const auto& one : made_)
        if (one.space == &device.dma() && !one.function.expired())
            return fail(Errc::unsupported,
                        device.name() + " shares " + device.dma().name() + " with " + one.host.text() +
                            ", and behind a virtual IOMMU each device needs a group of its own",
                        "assign one of them only, or leave out --iommu");
    return {};
}

Result<std::shared_ptr<PciFunction>> AssignedDevices::make(const VfioConfig& config, OnEvent on_event) {
    auto device = TRY(prepare(config));
    if (!context_.iommu)
        TRY_VOID(session_.map_guest(device->dma()));
    return finish(config, std::move(on_event), std::move(device));
}

Result<std::unique_ptr<Device>> AssignedDevices::prepare(const VfioConfig& config) {
    TRY_VOID(register_ram());
    auto device = TRY(take(config));
    if (context_.iommu)
        TRY_VOID(check_alone(*device));
    return device;
}

bool AssignedDevices::making(const std::string& id) const {
    return std::ranges::any_of(making_, [&](const Making& one) { return one.done && one.config.open.id == id; });
}

void AssignedDevices::make_later(const VfioConfig& config, OnEvent on_event, Done done) {
    making_.push_back({config, std::move(on_event), std::move(done)});
    if (making_.size() == 1)
        make_next();
}

void AssignedDevices::make_next() {
    while (!making_.empty() && !making_.front().job) { // else it is at work
        if (making_.front().done && start_pinning(making_.front()))
            return; // on_pinned() goes on
        making_.pop_front();
    }
}

/// False: it is over already.
bool AssignedDevices::start_pinning(Making& making) {
    const auto over = [&](Result<std::shared_ptr<PciFunction>> result) {
        auto done = std::exchange(making.done, nullptr); // which may ask for more
        done(std::move(result));
        return false;
    };
    auto device = prepare(making.config);
    if (!device)
        return over(std::unexpected{std::move(device).error()});
    making.device = std::move(*device);
    if (context_.iommu)
        return over(finish(making.config, std::move(making.on_event), std::move(making.device)));
    auto job = session_.begin_map_guest(making.device->dma());
    if (!job)
        return over(std::unexpected{std::move(job).error()});
    if (!*job)
        return over(finish(making.config, std::move(making.on_event), std::move(making.device)));
    making.job = std::move(*job);
    try {
        pinning_ = std::jthread{[this, alive = std::weak_ptr{alive_}, job = making.job.get(),
                                 &loop = context_.loop](const std::stop_token& stop) {
            job->run(stop);
            loop.post([this, alive] {
                if (alive.lock())
                    on_pinned();
            });
        }};
    } catch (const std::system_error& error) {
        return over(fail_thread("the thread that pins memory for a device", error));
    }
    return true;
}

void AssignedDevices::on_pinned() {
    if (!pinning_.joinable())
        return; // stop() was faster
    pinning_.join();
    Making making = std::move(making_.front());
    making_.pop_front();
    const auto mapped = session_.end_map_guest(*making.job);
    if (making.done) // else it was cancelled
        making.done(mapped ? finish(making.config, std::move(making.on_event), std::move(making.device))
                           : std::unexpected{mapped.error()});
    making.device.reset();
    make_next();
}

bool AssignedDevices::cancel(const std::string& id) {
    const auto found =
        std::ranges::find_if(making_, [&](const Making& one) { return one.done && one.config.open.id == id; });
    if (found == making_.end())
        return false;
    if (found == making_.begin())
        pinning_.request_stop();
    auto done = std::exchange(found->done, nullptr);
    done(fail(Errc::wrong_state, "vfio '" + id + "' was removed before the guest got it"));
    return true;
}

void AssignedDevices::stop() {
    if (pinning_.joinable()) {
        pinning_.request_stop();
        pinning_.join();
        (void)session_.end_map_guest(*making_.front().job);
    }
    for (auto making = std::exchange(making_, {}); auto& one : making)
        if (one.done)
            one.done(
                fail(Errc::wrong_state, "the machine ended before the guest got vfio '" + one.config.open.id + "'"));
}

Result<std::shared_ptr<PciFunction>> AssignedDevices::finish(const VfioConfig& config, OnEvent on_event,
                                                             std::unique_ptr<Device> device) {
    const auto host = device->address();
    auto& space = device->dma();
    auto* const raw = device.get(); // the function owns it while it calls
    devices::vfio::FunctionContext context{
        .irqs = context_.irqs,
        .mappings = context_.mappings,
        .loop = context_.loop,
        .on_event = std::move(on_event),
        .guest_uses = [this](const devices::vfio::PciAddress& address) { return in_use(address); }};
    if (!context_.iommu) {
        context.share_bar = [this](Range<Gpa> range, std::span<std::byte> bytes, const std::string& name) {
            return alive() > 1 ? session_.share_bar(range, bytes, name) : Registration{};
        };
    }
    if (context_.iommu || context_.pasids)
        context.attach_dma = [this, raw](devices::pci::Address at) { return attach(*raw, at); };
    devices::vfio::FunctionOptions options{
        .relocate_msix = config.relocate_msix, .msix_bar = config.msix_bar, .rom = config.rom};
    if (context_.pasids && !context_.iommu)
        if (const auto info = PasidAttach::probe(context_.kernel, *raw))
            options.synthesised.push_back(PasidAttach::capability(*info));
    auto function = TRY(PciFunction::create(std::move(device), std::move(options), std::move(context)));
    std::erase_if(made_, [](const Made& one) { return one.function.expired(); });
    made_.push_back({host, &space, function});
    for (const auto& one : made_)
        if (const auto other = one.function.lock())
            other->share_bars();
    return function;
}

/// Where the device sits on the guest's bus.
Result<Registration> AssignedDevices::attach(Device& device, devices::pci::Address at) {
    const auto endpoint = iommu::pci_endpoint(at.slot, at.function);
    Registration dma, pasids;
    if (context_.iommu)
        dma = TRY(context_.iommu->add_endpoint(endpoint, device.id(), device.dma()));
    if (context_.pasids)
        pasids = TRY(attach_pasids(device, endpoint));
    return Registration{[dma = std::move(dma), pasids = std::move(pasids)]() mutable {
        pasids.reset();
        dma.reset();
    }};
}

/// A device that cannot have PASIDs works without them.
Result<Registration> AssignedDevices::attach_pasids(Device& device, iommu::EndpointId endpoint) {
    auto made = context_.iommu
                    ? fail(Errc::unsupported,
                           "no PASIDs for " + device.name() + ": its DMA goes through the guest's virtual IOMMU",
                           "leave out --iommu: page tables of PASIDs nest on all of the guest's memory")
                    : PasidAttach::create(context_.kernel, device);
    if (!made) {
        const auto& error = made.error();
        log::write(log::Level::warning, "%s; it works without them (%s)", error.what.c_str(), error.hint.c_str());
        return context_.pasids->add_endpoint(endpoint, {.name = device.id(), .refusal = error.what});
    }
    log::write(log::Level::info, "%s has PASIDs of %u bits", device.name().c_str(), (*made)->pasid_bits());
    auto stay = TRY(context_.pasids->add_endpoint(endpoint, {.name = device.id(), .attacher = made->get()}));
    return Registration{[attached = *std::move(made), stay = std::move(stay)]() mutable {
        stay.reset(); // detaches what is bound
        attached.reset();
    }};
}

std::size_t AssignedDevices::alive() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(made_, [](const Made& one) { return !one.function.expired(); }));
}

bool AssignedDevices::in_use(const devices::vfio::PciAddress& host) const {
    return running_ &&
           std::ranges::any_of(made_, [&](const Made& one) { return one.host == host && !one.function.expired(); });
}

} // namespace inox
