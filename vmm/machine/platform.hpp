// SPDX-License-Identifier: Apache-2.0
// The fixed devices of the guest machine and where they sit.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "devices/guest_events.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace vmm {

class Platform {
public:
    struct Context {
        PortBus& ports;
        MemoryBus& mmio;
        Irqs& irqs;
        Doorbells& doorbells;
        const GuestMemory& memory;
        EventLoop& loop;
        devices::GuestEvents& events;
        std::function<void(std::span<const std::byte>)> serial_output; ///< on vCPU threads
        std::function<void()> serial_room;                             ///< on the loop
    };
    static Result<std::unique_ptr<Platform>> create(const Context& context);
    ~Platform();

    std::size_t serial_input(std::span<const std::byte> bytes);
    void send_ctrl_alt_del();

private:
    struct Devices;
    explicit Platform(std::unique_ptr<Devices> devices);
    std::unique_ptr<Devices> devices_;
};

} // namespace vmm
