// SPDX-License-Identifier: Apache-2.0
// The devices of a machine by name: what is there, and how they come and go while the guest runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/pci/function.hpp"
#include "devices/pci/hotplug.hpp"
#include "devices/pci/root_bus.hpp"
#include "devices/virtio/device.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"
#include "vmm/config/config.hpp"
#include "vmm/machine/device_slots.hpp"
#include "vmm/machine/machine_events.hpp"

namespace inox {

enum class DeviceState : std::uint8_t {
    active,   ///< the guest has it, or may take it
    ejecting, ///< the guest was asked to give it back
};

struct DeviceStatus {
    DeviceName name{};
    DeviceState state{DeviceState::active};
    std::optional<devices::pci::Address> address{}; ///< none with virtio-mmio
};

struct DeviceEvent {
    enum class What : std::uint8_t {
        added,
        ejecting, ///< the guest was asked
        ejected,  ///< the guest gave it back; it is gone
        removed,  ///< by force; it is gone
        failed,   ///< it reads as ones and does nothing more; the guest goes on without it until it is removed
    };
    What what{};
    DeviceStatus device{};
    std::string text{}; ///< What::failed: what happened
};

enum class Removal : std::uint8_t {
    asked,  ///< the guest stops using the device first; nothing happens if it never does
    forced, ///< gone at once; the guest sees a device that was torn out
};

/// A device on its way into the table.
struct NewDevice {
    DeviceName name{};
    std::shared_ptr<devices::pci::Function> function{};
    std::shared_ptr<devices::virtio::Device> device{}; ///< of a virtio device: for changes while it runs
    bool permanent{false};                             ///< cannot leave: others depend on it
    std::optional<devices::pci::Address> where{};      ///< empty: a free slot
};

/// On the loop's thread, but for the guest's ejects: those take the function from the bus on the guest's thread, and
/// the table learns of it on the loop.
class DeviceTable {
public:
    /// `events` may call back.
    DeviceTable(EventLoop& loop, MachineEvents& events) : loop_{loop}, events_{events} {}
    /// No vCPU may run any more.
    ~DeviceTable();
    DeviceTable(const DeviceTable&) = delete;
    DeviceTable& operator=(const DeviceTable&) = delete;

    /// From now on devices live on this bus and can come and go. The bus and the ports must outlive the table.
    Result<void> use(devices::pci::RootBus& pci, PortBus& ports, Irqs& irqs);
    /// The guest runs: additions are announced to it, and are events.
    void guest_starts() { running_ = true; }

    /// already_exists, no_resource when no slot or address space is left, wrong_state without PCI.
    Result<DeviceStatus> add(NewDevice device);
    /// A free slot for a device that is being made, where add() will put it. It is nobody else's until then, or until
    /// `keep` ends. no_resource, wrong_state as add().
    struct Promise {
        devices::pci::Address where{};
        Registration keep{};
    };
    Result<Promise> promise_slot();
    /// A device of a machine without PCI: it only stands in the table.
    Result<void> add_fixed(DeviceName name, std::shared_ptr<devices::virtio::Device> device);
    /// Asked twice: the guest is asked again. not_found; wrong_state for a device that cannot leave.
    Result<void> remove(const DeviceName& name, Removal how);

    /// Tells that the device does not work any more; nothing else changes.
    void report_failure(const DeviceName& name, std::string text) const;

    [[nodiscard]] std::vector<DeviceStatus> list() const;
    /// Null without PCI.
    [[nodiscard]] devices::pci::HotplugRegisters* registers() const { return registers_.get(); }
    /// Devices are where they are: none has just left, or was asked to, and no slot waits for the guest.
    [[nodiscard]] bool at_rest() const;
    /// already_exists when a device has this name.
    [[nodiscard]] Result<void> check_free(const DeviceName& name) const;
    /// The device with this id, whatever its kind; in_use when several kinds have one.
    [[nodiscard]] Result<DeviceName> find(std::string_view id) const;
    /// The virtio device of this name; null when there is none.
    [[nodiscard]] std::shared_ptr<devices::virtio::Device> device(const DeviceName& name) const;
    /// Descriptors, memory and interrupts of removed devices are given back with a short delay: true when none is left.
    [[nodiscard]] bool settled() const { return leaving_.empty(); }

private:
    struct Entry {
        DeviceStatus status{};
        std::shared_ptr<devices::pci::Function> function{};
        std::shared_ptr<devices::virtio::Device> device{};
        bool permanent{false};
    };
    using Entries = std::vector<Entry>;

    [[nodiscard]] Entries::const_iterator at(const DeviceName& name) const;
    [[nodiscard]] Result<devices::pci::Address> choose(const NewDevice& device) const;
    [[nodiscard]] Result<Entries::iterator> removable(const DeviceName& name);
    void on_eject(unsigned slot) noexcept; // on a vCPU's thread
    void clear_slot(unsigned slot) const;  // any thread
    void take_ejected();
    void drop(Entries::iterator entry, DeviceEvent::What what);
    void release_unused();
    void remind_later(std::chrono::milliseconds delay);
    void tell(DeviceEvent::What what, const DeviceStatus& device) const;

    EventLoop& loop_;
    MachineEvents& events_;
    devices::pci::RootBus* pci_{};
    PortBus* ports_{};
    std::shared_ptr<devices::pci::HotplugRegisters> registers_{};
    bool running_{false};
    Entries entries_{};
    std::vector<Entry> leaving_{}; ///< removed, perhaps still in a vCPU's hands
    DeviceSlots slots_{};
    std::shared_ptr<bool> alive_{std::make_shared<bool>(true)};
    Registration reminder_{};
    Registration release_{};
};

} // namespace inox
