// SPDX-License-Identifier: Apache-2.0
// A PCI function that remembers what happens to it, and a driver's way to reach configuration space.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "devices/pci/root_bus.hpp"
#include "tests/fakes/fake_guest_events.hpp"
#include "tests/support/registers.hpp"

namespace inox::fakes {

class PciFunction final : public devices::pci::Function {
public:
    explicit PciFunction(std::string name = "test-function");

    [[nodiscard]] std::string_view name() const override { return name_; }
    void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    Result<void> on_added(devices::pci::Address where) override;
    void on_removed() noexcept override { ++removed; }
    void on_bar_mapped(unsigned bar, Gpa where) noexcept override { mapped[bar] = where.raw(); }
    void on_bar_unmapped(unsigned bar) noexcept override { mapped.erase(bar); }
    void state(State& state) override;

    struct Write {
        unsigned bar;
        std::uint64_t offset;
        std::uint64_t value;
        bool operator==(const Write&) const = default;
    };
    std::vector<Write> writes{};
    std::map<unsigned, std::uint64_t> mapped{}; ///< BAR to address, as the callbacks tell
    devices::pci::Address address{};
    unsigned removed{};
    bool refuse_add{};

private:
    std::string name_;
};

/// Buses, a root bus, and accesses as a guest makes them.
struct PciMachine {
    MemoryBus memory{};
    PortBus ports{};
    FakeGuestEvents events{};
    devices::pci::Windows windows{};
    std::unique_ptr<devices::pci::RootBus> root{devices::pci::RootBus::create(memory, ports, events, windows).value()};

    static std::uint64_t ecam(devices::pci::Address at, unsigned reg);
    template <std::unsigned_integral T> T get(devices::pci::Address at, unsigned reg) {
        return tests::in<T>(memory, ecam(at, reg));
    }
    template <std::unsigned_integral T>
    void set(devices::pci::Address at, unsigned reg, std::type_identity_t<T> value) {
        tests::out<T>(memory, ecam(at, reg), value);
    }
    void select(devices::pci::Address at, unsigned reg);
    template <std::unsigned_integral T> T get_by_port(devices::pci::Address at, unsigned reg) {
        select(at, reg);
        return tests::in<T>(ports, 0xcfc + (reg & 3));
    }
    template <std::unsigned_integral T>
    void set_by_port(devices::pci::Address at, unsigned reg, std::type_identity_t<T> value) {
        select(at, reg);
        tests::out<T>(ports, 0xcfc + (reg & 3), value);
    }
    void decode(devices::pci::Address at, std::uint16_t command);
};

} // namespace inox::fakes
