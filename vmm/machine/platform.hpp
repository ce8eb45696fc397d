// SPDX-License-Identifier: Apache-2.0
// The devices of the guest machine: the fixed ones and where they sit, and those of the configuration.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/guest_events.hpp"
#include "devices/pci/bar_mapper.hpp"
#include "devices/pci/function.hpp"
#include "iommu/domains.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/boot/acpi.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/guest_mappings.hpp"
#include "vmm/bus/irq.hpp"
#include "vmm/config/config.hpp"
#include "vmm/machine/beside_loop.hpp"
#include "vmm/machine/device_maker.hpp"
#include "vmm/machine/device_table.hpp"
#include "vmm/memory/dma_memory.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::devices::vfio {
struct HostDeviceEvent;
class Kernel;
} // namespace inox::devices::vfio

namespace inox::iommu {
class PasidService;
}

namespace inox::devices::dsa {
class DsaFunction;
}

namespace inox::devices::virtio {
class Balloon;
class Block;
class Console;
class Net;
} // namespace inox::devices::virtio

namespace inox {

/// Registers and interrupts of the virtio-mmio devices; empty with virtio-pci. Known before any device exists, because
/// ACPI and the kernel command line name them.
std::vector<boot::AcpiMmioDevice> plan_virtio_mmio(const Config& config);
/// firectl passes it by default, but Linux knows only the IO-APIC on hardware-reduced ACPI, and would have no
/// interrupts at all: it is left out of every command line.
inline constexpr std::string_view unusable_word = "noapic";
/// What the kernel is told: the operator's words, and those this machine needs.
std::string kernel_cmdline(const Config& config);

/// Where the IOMMU sits; ACPI names it before it exists.
inline constexpr devices::pci::Address iommu_address{1, 0};

/// Where devices were on the bus; one that is not there gets a free slot.
using DevicePlaces = std::vector<std::pair<DeviceName, devices::pci::Address>>;

struct PlatformContext {
    PortBus& ports;
    MemoryBus& mmio;
    Irqs& irqs;
    Doorbells& doorbells;
    GuestMappings& mappings;
    const GuestMemory& memory;
    const DmaMemory& dma;    ///< guest memory as devices see it that are behind no IOMMU
    iommu::Domains* iommu{}; ///< null: there is none
    EventLoop& loop;
    devices::GuestEvents& guest;
    MachineEvents& events;
    SerialOutput& serial;
    ConsolePeer& console;
    iommu::PasidService* pasids{};                            ///< null: a machine without PASIDs
    std::function<Result<Registration>(int)> add_vfio_file{}; ///< tells KVM of it
    devices::vfio::Kernel* vfio_kernel{};                     ///< null: the host's
    std::string vfio_root{};                                  ///< before every path of the host's
    devices::pci::Windows windows{};                          ///< for BARs
    NetFilters net_filters{};                                 ///< see OpeningContext
    DevicePlaces places{};                                    ///< of a machine that is restored
};

class Platform {
public:
    /// `opened`: what open_devices() made of this configuration. On the loop's thread, or before it runs.
    static Result<std::unique_ptr<Platform>> create(const Config& config, std::vector<OpenedDevice> opened,
                                                    const PlatformContext& context);
    ~Platform();

    std::size_t serial_input(std::span<const std::byte> bytes);
    void send_ctrl_alt_del();
    /// Presses the power button, again each second until the guest has seen it.
    void press_power_button();
    /// Opens what the device needs and shows it to the guest; a running one is told. On the loop's thread, before the
    /// guest runs.
    Result<DeviceStatus> add(const DeviceConfig& config);
    /// The same for a running machine: opens the device, and pins memory for an assigned one, beside the loop. `done`
    /// is called on the loop, perhaps before this returns, and at the platform's end at the latest.
    using Added = std::move_only_function<void(Result<DeviceStatus>)>;
    void add_later(const DeviceConfig& config, Added done);
    /// Block::replace(), with the image opened beside the loop. `done` as above.
    using Done = BesideLoop::End;
    void replace_image(std::shared_ptr<devices::virtio::Block> disk, const std::string& path, Done done);
    /// An assigned device that add_later() is at work on is not to come any more: its `done` is told. False: there is
    /// none.
    bool cancel(const DeviceName& name);
    /// A device or an image is on its way.
    [[nodiscard]] bool changing() const { return beside_.busy(); }
    /// No device comes any more; those that were on their way are told so.
    void stop();
    /// The guest runs from now on.
    void guest_starts();
    [[nodiscard]] DeviceTable& table() { return table_; }
    // For snapshots, in the order of vmm/bus/stateful.hpp.
    /// Why the machine cannot be saved, naming the device; nullopt: it can.
    [[nodiscard]] std::optional<std::string> unsaveable() const;
    [[nodiscard]] bool drain() noexcept;
    void resume() noexcept;
    void state(State& state);
    /// The guest's clocks jumped; `forked`: its generation id is another one, too.
    void tell_new_time(bool forked) noexcept;
    // Null when there is none.
    [[nodiscard]] std::shared_ptr<devices::virtio::Block> disk(const std::string& id) const;
    [[nodiscard]] std::shared_ptr<devices::virtio::Net> net(const std::string& id) const;
    [[nodiscard]] std::shared_ptr<devices::virtio::Balloon> balloon() const;
    [[nodiscard]] std::shared_ptr<devices::dsa::DsaFunction> dsa() const;
    /// Null without a virtio console.
    [[nodiscard]] devices::virtio::Console* console() const;

private:
    explicit Platform(const PlatformContext& context);
    Result<void> add_legacy();
    void add_assigned_later(const VfioConfig& config, Added done);
    [[nodiscard]] Result<void> may_add(const DeviceName& name) const;
    Result<DeviceStatus> add_opened(const DeviceConfig& config, OpenedDevice opened);
    Result<DeviceStatus> add_to_pci(NewDevice device);
    Result<DeviceStatus> add_to_mmio(const NewDevice& device);
    [[nodiscard]] Result<void> check_name(const DeviceName& name) const;
    /// Calls it with the name and the state of each part that is not on the PCI bus.
    template <class F> void each_fixed(F&& call) const;
    void remind_of_button();
    void on_assigned_event(const DeviceName& name, const devices::vfio::HostDeviceEvent& event);

    PlatformContext context_;
    std::unique_ptr<PlatformParts> parts_;
    Registration button_reminder_{};
    DeviceTable table_; // leaves the buses first
    BesideLoop beside_;
};

} // namespace inox
