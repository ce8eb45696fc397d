// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/device_table.hpp"

#include <algorithm>

#include "vmm/base/log.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

namespace pci = devices::pci;
using namespace std::chrono_literals;

constexpr auto first_reminder = 1000ms;
constexpr auto last_reminder = 60000ms;
constexpr auto release_delay = 1ms;

std::unexpected<Error> no_hotplug() {
    return fail(Errc::wrong_state, "a machine without PCI cannot gain or lose devices while it runs",
                "start it with PCI (--enable-pci)", PciOff{});
}

} // namespace

DeviceTable::~DeviceTable() {
    if (registers_)
        ports_->remove(layout::port_pci_hotplug);
}

Result<void> DeviceTable::use(devices::pci::RootBus& pci, PortBus& ports, Irqs& irqs) {
    auto registers = std::make_shared<devices::pci::HotplugRegisters>(
        TRY(irqs.line(layout::gsi_ged, TriggerMode::edge)), [this](unsigned slot) { on_eject(slot); });
    TRY_VOID(ports.add(layout::port_pci_hotplug, registers));
    pci.for_each([&](pci::Address address, const auto&) { slots_.fill(address.slot, true); });
    pci_ = &pci;
    ports_ = &ports;
    registers_ = std::move(registers);
    return {};
}

DeviceTable::Entries::const_iterator DeviceTable::at(const DeviceName& name) const {
    return std::ranges::find(entries_, name, [](const Entry& entry) -> const DeviceName& { return entry.status.name; });
}

Result<void> DeviceTable::check_free(const DeviceName& name) const {
    const auto of_kind = [&](const Entry& entry) { return entry.status.name.kind == name.kind; };
    if (is_single(name.kind) && std::ranges::any_of(entries_, of_kind))
        return fail(Errc::already_exists,
                    "there is already: " + std::ranges::find_if(entries_, of_kind)->status.name.text(),
                    "a machine has at most one such device: remove that one first", IdTaken{});
    if (at(name) != entries_.end())
        return fail(Errc::already_exists, "there is already: " + name.text(), "give the new one another id", IdTaken{});
    return {};
}

Result<DeviceName> DeviceTable::find(std::string_view id) const {
    std::vector<DeviceName> found;
    for (const Entry& entry : entries_)
        if (entry.status.name.id == id)
            found.push_back(entry.status.name);
    if (found.empty())
        return fail(Errc::not_found, "there is no device '" + std::string{id} + "'");
    if (found.size() > 1)
        return fail(Errc::in_use, found[0].text() + " and " + found[1].text() + " have the same id", "say which kind");
    return found.front();
}

bool DeviceTable::at_rest() const {
    return leaving_.empty() && !slots_.any(SlotState::promised) && !slots_.any(SlotState::torn_out) &&
           !slots_.any(SlotState::held) &&
           std::ranges::all_of(entries_, [](const Entry& entry) { return entry.status.state == DeviceState::active; });
}

std::shared_ptr<devices::virtio::Device> DeviceTable::device(const DeviceName& name) const {
    const auto entry = at(name);
    return entry == entries_.end() ? nullptr : entry->device;
}

std::vector<DeviceStatus> DeviceTable::list() const {
    std::vector<DeviceStatus> all;
    for (const Entry& entry : entries_)
        all.push_back(entry.status);
    return all;
}

Result<void> DeviceTable::add_fixed(DeviceName name, std::shared_ptr<devices::virtio::Device> device) {
    TRY_VOID(check_free(name));
    entries_.push_back({{std::move(name), DeviceState::active, {}}, {}, std::move(device), true});
    return {};
}

Result<DeviceStatus> DeviceTable::add(NewDevice device) {
    if (!pci_)
        return no_hotplug();
    TRY_VOID(check_free(device.name));
    const pci::Address slot = TRY(choose(device));
    if (slots_.state(slot.slot) == SlotState::torn_out)
        clear_slot(slot.slot);
    const pci::Address where = TRY(pci_->add(device.function, slot));
    slots_.fill(where.slot, device.permanent);
    entries_.push_back({{std::move(device.name), DeviceState::active, where},
                        std::move(device.function),
                        std::move(device.device),
                        device.permanent});
    const DeviceStatus status = entries_.back().status;
    if (running_) {
        registers_->announce(where.slot);
        remind_later(first_reminder);
        tell(DeviceEvent::What::added, status);
    }
    return status;
}

Result<DeviceTable::Promise> DeviceTable::promise_slot() {
    if (!pci_)
        return no_hotplug();
    const pci::Address where = TRY(choose({}));
    if (slots_.state(where.slot) == SlotState::torn_out)
        clear_slot(where.slot);
    slots_.promise(where.slot);
    return Promise{where, Registration{[this, slot = where.slot] {
                       if (slots_.state(slot) == SlotState::promised)
                           slots_.vacate(slot);
                   }}};
}

Result<pci::Address> DeviceTable::choose(const NewDevice& device) const {
    const auto still_held = [](std::string what) {
        return fail(
            Errc::no_resource, std::move(what),
            "wait until the guest has ejected it (a paused one must run for that), or remove a device by asking");
    };
    if (device.where) {
        // An ejected device stays in the table for a moment after it has left the bus.
        for (const Entry& entry : entries_)
            if (device.where == entry.status.address)
                return fail(Errc::already_exists, format("PCI address %s is taken by %s", device.where->text().c_str(),
                                                         entry.status.name.text().c_str()));
        if (slots_.state(device.where->slot) == SlotState::held)
            return still_held("the guest has not ejected the device that was removed by force from " +
                              device.where->text());
        return *device.where;
    }
    if (const auto slot = slots_.choose())
        return pci::Address{*slot, 0};
    if (slots_.any(SlotState::held))
        return still_held(
            "every free PCI slot had a device that was removed by force, and the guest has not ejected it");
    return fail(Errc::no_resource, format("all %u PCI slots are taken", DeviceSlots::count), "remove a device first");
}

Result<DeviceTable::Entries::iterator> DeviceTable::removable(const DeviceName& name) {
    const auto entry = entries_.begin() + (at(name) - entries_.cbegin());
    if (entry == entries_.end())
        return fail(Errc::not_found, "there is no " + name.text(), {}, NoDevice{});
    if (!pci_)
        return no_hotplug();
    if (entry->permanent)
        return fail(Errc::wrong_state, name.text() + " cannot be removed while the machine runs",
                    "stop the machine and start it without this device");
    return entry;
}

Result<void> DeviceTable::remove(const DeviceName& name, Removal how) {
    const auto entry = TRY(removable(name));
    const pci::Address address = *entry->status.address;
    if (how == Removal::forced) {
        const bool driven = (entry->function->config().command() & pci::command_bit::bus_master) != 0;
        // Either call fails only if the guest has just ejected the device. An assigned device's driver knows what a
        // torn-out device reads like; a virtio driver needs help.
        (void)(running_ && entry->device ? pci_->tear_out(address) : pci_->remove(address));
        if (running_) {
            slots_.tear_out(address.slot, driven && entry->device);
            registers_->ask_back(address.slot); // so that its driver releases the removed device
            remind_later(first_reminder);
        } else {
            slots_.vacate(address.slot);
        }
        drop(entry, DeviceEvent::What::removed);
        return {};
    }
    entry->status.state = DeviceState::ejecting;
    registers_->ask_back(address.slot);
    remind_later(first_reminder);
    tell(DeviceEvent::What::ejecting, DeviceStatus{entry->status});
    return {};
}

void DeviceTable::on_eject(unsigned slot) noexcept {
    // The guest looks whether the slot is empty as soon as this returns, so the function leaves the bus here.
    if (!slots_.ejectable(slot))
        return;
    clear_slot(slot);
    if (slots_.eject(slot))
        loop_.post([this, alive = std::weak_ptr{alive_}] {
            if (alive.lock())
                take_ejected();
        });
}

void DeviceTable::clear_slot(unsigned slot) const {
    for (std::uint8_t function = 0; function < pci::RootBus::functions_per_slot; ++function)
        if (const pci::Address address{static_cast<std::uint8_t>(slot), function}; pci_->find(address))
            (void)pci_->remove(address);
}

void DeviceTable::take_ejected() {
    const auto gone = slots_.take_ejected();
    for (unsigned slot = 0; slot < DeviceSlots::count; ++slot) {
        const auto entry = std::ranges::find_if(entries_, [&](const Entry& one) {
            return one.status.address && one.status.address->slot == slot && !pci_->find(*one.status.address);
        });
        if (!gone.test(slot) || entry == entries_.end())
            continue;
        slots_.vacate(slot);
        drop(entry, DeviceEvent::What::ejected);
    }
}

void DeviceTable::drop(Entries::iterator entry, DeviceEvent::What what) {
    leaving_.push_back(std::move(*entry));
    entries_.erase(entry);
    const DeviceStatus status = leaving_.back().status;
    release_unused();
    tell(what, status);
}

/// Destroys functions here, on the loop, once no vCPU is inside an access to them.
void DeviceTable::release_unused() {
    std::erase_if(leaving_, [](const Entry& entry) { return entry.function.use_count() == 1; });
    if (!leaving_.empty())
        release_ = loop_.after(release_delay, [this] { release_unused(); });
}

void DeviceTable::remind_later(std::chrono::milliseconds delay) {
    reminder_ = loop_.after(delay, [this, delay] {
        if (registers_->remind())
            remind_later(std::min<std::chrono::milliseconds>(delay * 2, last_reminder));
    });
}

void DeviceTable::report_failure(const DeviceName& name, std::string text) const {
    if (const auto entry = at(name); entry != entries_.end())
        events_.on_device({DeviceEvent::What::failed, entry->status, std::move(text)});
}

void DeviceTable::tell(DeviceEvent::What what, const DeviceStatus& device) const {
    events_.on_device({what, device, {}});
}

} // namespace inox
