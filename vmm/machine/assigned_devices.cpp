// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/assigned_devices.hpp"

#include <algorithm>
#include <utility>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/pasid_attach.hpp"
#include "devices/vfio/pci_function.hpp"
#include "devices/vfio/session.hpp"
#include "vmm/base/log.hpp"

namespace inox {

using devices::vfio::Device;
using devices::vfio::PasidAttach;
using devices::vfio::PciFunction;

AssignedDevices::AssignedDevices(AssignedContext context)
    : context_{std::move(context)}, session_{std::make_unique<devices::vfio::Session>(
                                        devices::vfio::SessionHooks{.add_to_kvm = context_.add_to_kvm,
                                                                    .on_unreachable = [this] { sum_up_later(); }},
                                        context_.kernel ? *context_.kernel : devices::vfio::Kernel::host(),
                                        context_.root)} {}

AssignedDevices::~AssignedDevices() { stop(); }

/// Reports unreachable BARs once and a second later, because the guest places the BARs of all devices in one go.
void AssignedDevices::sum_up_later() {
    context_.loop.post([this, alive = std::weak_ptr{alive_}] {
        if (alive.lock())
            sum_up_ = context_.loop.after(std::chrono::seconds{1},
                                          [this] { apart([this] { session_->tell_unreachable(); }); });
    });
}

Result<void> AssignedDevices::open(std::span<const VfioConfig* const> devices) {
    for (const auto* device : devices)
        opened_[device->open.id] = TRY(Device::open(*session_, device->open));
    return {};
}

Result<std::unique_ptr<Device>> AssignedDevices::take(const VfioConfig& config) {
    if (auto node = opened_.extract(config.open.id))
        return std::move(node.mapped());
    return Device::open(*session_, config.open);
}

Result<void> AssignedDevices::register_ram() {
    if (registered_)
        return {};
    for (const auto& region : context_.memory.regions())
        TRY_VOID(session_->add_ram(region));
    registered_ = true;
    return {};
}

/// Behind its IOMMU the guest may give each device an address space of its own; the host has one for a whole group.
Result<void> AssignedDevices::check_alone(const Device& device) const {
    for (const auto& one : made_)
        if (one.space == &device.dma())
            return fail(Errc::unsupported,
                        device.name() + " shares " + device.dma().name() + " with " + one.host.text() +
                            ", and behind a virtual IOMMU each device needs a group of its own",
                        "assign one of them only, or leave out --iommu");
    return {};
}

Result<AssignedDevices::Function> AssignedDevices::make(const VfioConfig& config, OnEvent on_event) {
    auto device = TRY(prepare(config));
    if (!context_.iommu)
        TRY_VOID(session_->map_guest(device->dma()));
    return finish(config, std::move(on_event), std::move(device));
}

Result<AssignedDevices::Function> AssignedDevices::make_at(const Making& making, const std::stop_token& stop) {
    auto device = TRY(prepare(making.config));
    if (!context_.iommu)
        TRY_VOID(map_in_pieces(device->dma(), stop));
    auto function = TRY(finish(making.config, making.on_event, std::move(device)));
    TRY_VOID(function->attach(making.at));
    return function;
}

Result<void> AssignedDevices::map_in_pieces(devices::vfio::AddressSpace& space, const std::stop_token& stop) {
    const auto job = TRY(session_->begin_map_guest(space));
    if (!job)
        return {}; // guest memory is mapped there already
    job->run(stop);
    return session_->end_map_guest(*job);
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

void AssignedDevices::make_later(const VfioConfig& config, devices::pci::Address at, OnEvent on_event, Done done) {
    making_.push_back({config, at, std::move(on_event), std::move(done)});
    make_next();
}

void AssignedDevices::make_next() {
    while (!making_.empty() && !at_work_) {
        auto& next = making_.front();
        auto ready = stopped_ ? Result<void>{fail(Errc::wrong_state, "the machine ends")} : thread_.start();
        if (next.done && ready) {
            at_work_ = true;
            stop_making_ = {};
            apart([this, alive = std::weak_ptr{alive_}, &next, stop = stop_making_.get_token()] {
                next.made = make_at(next, stop);
                context_.loop.post([this, alive] {
                    if (alive.lock())
                        on_made();
                });
            });
            return;
        }
        auto done = std::exchange(next.done, nullptr); // may ask for more devices
        making_.pop_front();
        if (done)
            done(std::unexpected{std::move(ready).error()});
    }
}

void AssignedDevices::on_made() {
    if (!std::exchange(at_work_, false))
        return; // stop() came first
    {
        Making making = std::move(making_.front());
        making_.pop_front();
        if (making.done) // if it was cancelled, it is destroyed before the next is made
            making.done(*std::move(making.made));
    }
    make_next();
}

/// Runs `work` on the devices' thread, or at once: on that thread itself, and while the guest does not run yet.
void AssignedDevices::apart(WorkThread::Work work) {
    if (thread_.is_current())
        return work();
    if (running_ && !stopped_)
        if (const auto started = thread_.start(); !started)
            log::write(log::Level::warning, "%s; all devices wait for it", started.error().message().c_str());
    if (!thread_.runs())
        return work();
    thread_.post([&loop = context_.loop, work = std::move(work)]() mutable {
        const EventLoop::Apart apart{loop};
        work();
        work = nullptr;
    });
}

/// Called on the loop after the last use; or on the devices' thread, when the function never came to the loop.
void AssignedDevices::release(std::unique_ptr<PciFunction> function) {
    function->leave_loop();
    apart([this, function = std::move(function)]() mutable {
        std::erase_if(made_, [&](const Made& one) { return one.function == function.get(); });
        function.reset();
    });
}

bool AssignedDevices::cancel(const std::string& id) {
    const auto found =
        std::ranges::find_if(making_, [&](const Making& one) { return one.done && one.config.open.id == id; });
    if (found == making_.end())
        return false;
    if (found == making_.begin())
        stop_making_.request_stop();
    auto done = std::exchange(found->done, nullptr);
    done(fail(Errc::wrong_state, "vfio '" + id + "' was removed before the guest got it"));
    return true;
}

void AssignedDevices::stop() {
    stopped_ = true;
    stop_making_.request_stop();
    thread_.finish();
    at_work_ = false;
    for (auto making = std::exchange(making_, {}); auto& one : making)
        if (one.done)
            one.done(
                fail(Errc::wrong_state, "the machine ended before the guest got vfio '" + one.config.open.id + "'"));
}

Result<std::shared_ptr<PciFunction>> AssignedDevices::finish(const VfioConfig& config, OnEvent on_event,
                                                             std::unique_ptr<Device> device) {
    const auto host = device->address();
    auto& space = device->dma();
    auto* const raw = device.get(); // stays valid: the function that calls owns it
    devices::vfio::FunctionContext context{
        .irqs = context_.irqs,
        .mappings = context_.mappings,
        .loop = context_.loop,
        .on_event = std::move(on_event),
        .apart = [this](WorkThread::Work work) { apart(std::move(work)); },
        .guest_uses = [this](const devices::vfio::PciAddress& address) { return in_use(address); }};
    if (!context_.iommu) {
        context.share_bar = [this](Range<Gpa> range, std::span<std::byte> bytes, const std::string& name) {
            return made_.size() > 1 ? session_->share_bar(range, bytes, name) : Registration{};
        };
    }
    if (context_.iommu || context_.pasids)
        context.attach_dma = [this, raw](devices::pci::Address at) { return attach(*raw, at); };
    devices::vfio::FunctionOptions options{
        .relocate_msix = config.relocate_msix, .msix_bar = config.msix_bar, .rom = config.rom};
    if (context_.pasids && !context_.iommu)
        if (const auto info = PasidAttach::probe(session_->kernel(), *raw))
            options.synthesised.push_back(PasidAttach::capability(*info));
    auto created = TRY(PciFunction::create(std::move(device), std::move(options), std::move(context)));
    const std::shared_ptr<PciFunction> function{
        created.release(), [this](PciFunction* last) { release(std::unique_ptr<PciFunction>{last}); }};
    made_.push_back({host, &space, function.get()});
    for (const auto& one : made_)
        one.function->share_bars();
    return function;
}

/// Makes the device an endpoint of the guest's IOMMU and of its PASIDs, by its address on the guest's bus.
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
                    : PasidAttach::create(session_->kernel(), device);
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

bool AssignedDevices::in_use(const devices::vfio::PciAddress& host) const {
    return running_ && std::ranges::any_of(made_, [&](const Made& one) { return one.host == host; });
}

} // namespace inox
