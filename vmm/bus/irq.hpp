// SPDX-License-Identifier: Apache-2.0
// How devices interrupt the guest and are rung by it, without knowing KVM. The tests provide fakes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "vmm/base/address.hpp"
#include "vmm/base/os.hpp"

namespace inox {

/// What a device writes to signal an MSI (PCI 3.0 6.8.1).
struct MsiMessage {
    std::uint64_t address{};
    std::uint32_t data{};
    bool operator==(const MsiMessage&) const = default;
};

/// A pin of the interrupt controller. Usable from any thread.
class IrqLine {
public:
    IrqLine() = default;
    IrqLine(const IrqLine&) = delete;
    IrqLine& operator=(const IrqLine&) = delete;
    virtual ~IrqLine() = default;
    /// Edge lines: one interrupt. Level lines: raised until the guest's end of interrupt.
    virtual void trigger() noexcept = 0;
    /// Writing this eventfd is the same as trigger(); for VFIO and io threads.
    [[nodiscard]] virtual int trigger_fd() const = 0;
    /// Level lines only: readable after each end of interrupt; whoever still asserts triggers again. -1 otherwise.
    [[nodiscard]] virtual int resample_fd() const = 0;
};

/// One MSI or MSI-X vector. The owner serialises route() and enable(); trigger() may come from any thread.
class MsiVector {
public:
    MsiVector() = default;
    MsiVector(const MsiVector&) = delete;
    MsiVector& operator=(const MsiVector&) = delete;
    virtual ~MsiVector() = default;
    /// Sets where the interrupt goes. Takes effect for the next trigger.
    virtual Result<void> route(MsiMessage message) = 0;
    /// While disabled (masked), signals stay counted in trigger_fd() and nothing reaches the guest; enabling delivers
    /// one interrupt when the count is not zero.
    virtual Result<void> enable(bool enabled) = 0;
    virtual void trigger() noexcept = 0;
    [[nodiscard]] virtual int trigger_fd() const = 0;
    /// True when signalled while disabled.
    [[nodiscard]] virtual bool pending() const = 0;
};

enum class TriggerMode : std::uint8_t { edge, level };

class Irqs {
public:
    Irqs() = default;
    Irqs(const Irqs&) = delete;
    Irqs& operator=(const Irqs&) = delete;
    virtual ~Irqs() = default;
    virtual Result<std::unique_ptr<IrqLine>> line(unsigned gsi, TriggerMode mode) = 0;
    /// no_resource when the routing table is full.
    virtual Result<std::unique_ptr<MsiVector>> msi() = 0;
};

/// Turns guest writes into eventfd signals without an exit to us.
class Doorbells {
public:
    Doorbells() = default;
    Doorbells(const Doorbells&) = delete;
    Doorbells& operator=(const Doorbells&) = delete;
    virtual ~Doorbells() = default;
    /// `size` in bytes: 1, 2, 4, 8, or 0 for a write of any width (then without `match`). The event must outlive the
    /// registration.
    virtual Result<Registration> add(Gpa address, unsigned size, std::optional<std::uint64_t> match,
                                     const EventFd& event) = 0;
};

} // namespace inox
