// SPDX-License-Identifier: Apache-2.0
// What a machine tells who made it: one interface for each thread, and one for the consoles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "iommu/faults.hpp"
#include "vmm/base/error.hpp"

namespace inox {

struct DeviceEvent;
struct DeviceName;

/// How a guest ended.
struct GuestEnd {
    enum class How : std::uint8_t { powered_off, reset, exited, failed, stopped };
    How how{How::powered_off};
    std::uint8_t exit_code{0};    ///< How::exited: what the guest wrote to the exit port
    std::optional<Error> error{}; ///< How::failed; also How::stopped, unless it was meant to end so
    std::string what{};           ///< How::stopped without an error: what ended it
};

/// What is known when a guest's kernel panics.
struct GuestPanic {
    enum class Source : std::uint8_t {
        pvpanic, ///< its driver says so
        console, ///< its text says so
    };
    Source source{};
    bool crash_kernel{false}; ///< another kernel of the guest's own takes over
    std::string reason{};     ///< Source::console: the kernel's words
};

/// On the loop's thread. The receiver outlives what the machine has posted to the loop.
class MachineEvents {
public:
    virtual ~MachineEvents() = default;
    /// Once. The machine is still there; stop() is the receiver's next step.
    virtual void on_end(GuestEnd end) = 0;
    /// A device came or went.
    virtual void on_device(const DeviceEvent& event) = 0;
    /// A driver broke a device, which waits for its reset; rate limited.
    virtual void on_device_error(const DeviceName& name, const std::string& what) = 0;
    /// The guest's kernel panicked. A device says it once, and once more of a crash kernel.
    virtual void on_panic(const GuestPanic& panic) = 0;
    /// Once.
    virtual void on_user_space_up() = 0;
    /// On a thread of its own: the machine has ended with this error, and the loop may be in a call that never returns.
    virtual void on_stalled(const Error& why) noexcept = 0;
    /// The guest's IOMMU refused an access; rate limited: the numbers tell what was left out.
    virtual void on_iommu_fault(const iommu::Faults::Entry& entry) = 0;
};

/// On vCPU threads.
class SerialOutput {
public:
    virtual ~SerialOutput() = default;
    virtual void serial_output(std::span<const std::byte> bytes) = 0;
};

/// The other side of the serial port's input and of the virtio console; on the loop's thread.
class ConsolePeer {
public:
    virtual ~ConsolePeer() = default;
    /// The guest took input.
    virtual void on_input_room() = 0;
    /// Output of the virtio console: takes what it can and returns how much. See Machine::console().
    virtual std::size_t console_output(std::span<const std::byte> bytes) = 0;
};

} // namespace inox
