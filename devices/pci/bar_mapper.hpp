// SPDX-License-Identifier: Apache-2.0
// Puts BARs where the guest programs them, and nowhere else than inside the host bridge's windows.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "devices/pci/function.hpp"
#include "vmm/base/log.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::devices::pci {

/// What the host bridge forwards to its functions. No RAM, interrupt controller or other device may lie inside.
struct Windows {
    Range<Gpa> memory32{layout::pci_bars_32};
    std::optional<Range<Gpa>> memory64{layout::pci_bars_64};
    Range<IoPort> io{layout::pci_io};
};

/// A function on the bus, with where its BARs are mapped now.
struct Attached {
    struct Span {
        std::uint64_t start{};
        std::uint64_t size{};
        bool operator==(const Span&) const = default;
    };
    std::shared_ptr<Function> function{};
    Address address{};
    std::array<std::optional<Span>, bar_count> mapped{};
    std::array<std::optional<Span>, bar_count> refused{}; ///< programmed and decoded, but outside the windows or taken
};

/// Not synchronised: the root bus's lock covers it.
class BarMapper {
public:
    BarMapper(MemoryBus& memory, PortBus& ports, const Windows& windows)
        : memory_{memory}, ports_{ports}, windows_{windows} {}

    /// Gives each BAR of a new function an address that no BAR of `others` uses. no_resource when a window is full.
    Result<void> place(Function& function, std::span<const std::unique_ptr<Attached>> others) const;
    /// Makes the buses agree with the function's command register and BARs. True when a range became free.
    bool sync(Attached& attached) noexcept;
    /// Tries again what another BAR was in the way of.
    void retry(Attached& attached) noexcept;
    void unmap_all(Attached& attached) noexcept;

private:
    using Span = Attached::Span;

    [[nodiscard]] bool in_window(const Bar& bar, Span span) const;
    [[nodiscard]] std::optional<Span> find_gap(const Bar& bar, std::span<const Span> taken) const;
    void map(Attached& attached, unsigned index, Span span) noexcept;
    void unmap(Attached& attached, unsigned index) noexcept;
    void refuse(Attached& attached, unsigned index, Span span, const char* reason) noexcept;

    MemoryBus& memory_;
    PortBus& ports_;
    Windows windows_;
    log::Throttle limiter_{};
};

} // namespace inox::devices::pci
