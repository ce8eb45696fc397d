// SPDX-License-Identifier: Apache-2.0
// The fixed devices of the guest machine and where they sit.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/guest_events.hpp"
#include "devices/virtio/console.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/boot/acpi.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"
#include "vmm/machine/config.hpp"
#include "vmm/memory/dma_memory.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace vmm {

/// Registers and interrupts of the virtio-mmio devices; empty with virtio-pci. Known before any device exists, because
/// ACPI and the kernel command line name them.
std::vector<boot::AcpiMmioDevice> plan_virtio_mmio(const Config& config);
/// What virtio_mmio.device= parameters the plan needs, each with a blank before it.
std::string virtio_mmio_cmdline(const std::vector<boot::AcpiMmioDevice>& plan);

class Platform {
public:
    struct Context {
        PortBus& ports;
        MemoryBus& mmio;
        Irqs& irqs;
        Doorbells& doorbells;
        const GuestMemory& memory;
        const DmaMemory& dma; ///< guest memory as devices see it
        EventLoop& loop;
        devices::GuestEvents& events;
        std::function<void(std::span<const std::byte>)> serial_output; ///< on vCPU threads
        std::function<void()> serial_room;                             ///< on the loop
        devices::virtio::Console::Output console_output;               ///< on the loop
        std::function<void()> console_room;                            ///< on the loop
    };
    /// On the loop's thread, or before it runs.
    static Result<std::unique_ptr<Platform>> create(const Config& config, const Context& context);
    ~Platform();

    std::size_t serial_input(std::span<const std::byte> bytes);
    void send_ctrl_alt_del();
    /// Null without a virtio console.
    [[nodiscard]] devices::virtio::Console* console() const;

private:
    struct Devices;
    Platform(std::unique_ptr<Devices> devices, const Context& context);
    Result<void> add_legacy();
    Result<void> add_virtio_devices(const Config& config);
    Result<void> attach(std::shared_ptr<devices::virtio::Device> device);

    Context context_;
    std::unique_ptr<Devices> devices_;
};

} // namespace vmm
