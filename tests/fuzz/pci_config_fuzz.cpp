// SPDX-License-Identifier: Apache-2.0
// The guest's side of PCI: configuration access by port and by ECAM, BARs moved anywhere, MSI-X tables written with any
// width. Whatever the input, a BAR answers only inside the host bridge's windows, and only while it is decoded.

#include "devices/pci/msi.hpp"
#include "devices/pci/msix.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/fuzz/bus_access.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/state.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using namespace devices::pci;
using fuzz::access;
using fuzz::Input;
using fuzz::require;

/// A function with all kinds of BARs, and MSI-X in one of them.
class Target final : public Function {
public:
    Target(Irqs& irqs, std::uint16_t msi_control)
        : Function{{.vendor = 0x1234, .device = 0x11e8, .class_code = 0x088000}},
          msix_{irqs, {.vectors = 5, .table_bar = 2, .table_offset = 0x100, .pba_bar = 2, .pba_offset = 0x800}},
          msi_{irqs, MsiLayout::decode(msi_offset, msi_control)} {
        const std::array<std::byte, 4> body{};
        const bool built = config().add_bar(0, {.kind = BarKind::memory32, .size = 256}) &&
                           config().add_bar(1, {.kind = BarKind::io, .size = 8}) &&
                           config().add_bar(2, {.kind = BarKind::memory64, .size = 4 * KiB}) &&
                           config().add_bar(4, {.kind = BarKind::memory64, .size = 8 * GiB, .prefetchable = true}) &&
                           config().add_bar(rom_bar, {.kind = BarKind::memory32, .size = 2 * KiB}) &&
                           msix_.add_capability(config()) && config().add_extended_capability(0x1b, 1, body, body);
        require(built && !config().add_bar(0, {.kind = BarKind::io, .size = 8}) &&
                !config().add_bar(5, {.kind = BarKind::io, .size = 7}) &&
                !config().add_capability(9, std::vector<std::byte>(250)) &&
                !config().add_extended_capability(2, 1, std::vector<std::byte>(4092)));
        config().reserve(msi_offset, MsiLayout::decode(msi_offset, msi_control).size());
        config().link_capability(msi_offset, 0x05);
        msi_.install(config());
        config().set_interrupt_pin(1);
    }
    [[nodiscard]] std::string_view name() const override { return "target"; }
    void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept override {
        require(offset + data.size() <= config().bar(bar)->size);
        if (!msix_.bar_read(bar, offset, data))
            store_le(data, offset);
    }
    void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept override {
        require(offset + data.size() <= config().bar(bar)->size);
        if (!msix_.bar_write(bar, offset, data))
            msix_.trigger(static_cast<unsigned>(offset % 8));
    }
    void on_bar_mapped(unsigned bar, Gpa address) noexcept override {
        require(!mapped[bar] && config().bar_decoded(bar) && config().bar_address(bar) == address.raw());
        const auto range = Range<Gpa>::sized(address, config().bar(bar)->size);
        require(range && (layout::pci_bars_32.contains(*range) || layout::pci_bars_64.contains(*range)));
        mapped[bar] = true;
    }
    void state(State& state) override {
        state.part("msix", [this](State& part) { msix_.state(part); });
    }
    void resume() noexcept override { msix_.resume(); }
    void on_bar_unmapped(unsigned bar) noexcept override {
        require(mapped[bar]);
        mapped[bar] = false;
    }
    void on_removed() noexcept override {
        for (const bool still : mapped)
            require(!still);
    }

    /// What a device does with its vectors.
    void reset() {
        (void)msix_.trigger_fd(0);
        require(!msix_.trigger_fd(99));
        msix_.reset();
        require(!msix_.enabled());
        config().set_interrupt_status(msi_.enabled());
        msi_.update_pending();
        for (const int fd : msi_.eventfds())
            require(fd >= -1);
        msi_.reset();
        require(!msi_.enabled());
    }

    std::array<bool, bar_count> mapped{};

private:
    static constexpr unsigned msi_offset = 0xc0;
    Msix msix_;
    Msi msi_;
};

/// An address in configuration space, or one close to a BAR.
std::uint64_t memory_address(Input& input, Target& target) {
    const auto choice = input.take<std::uint8_t>();
    const auto offset = input.take<std::uint16_t>();
    if (choice < 160)
        return layout::ecam.start().raw() + ((choice % 4U) << 15) + offset;
    constexpr std::array<unsigned, 4> bars{0, 2, 4, rom_bar};
    return target.config().bar_address(bars[choice % 4]) + offset % 0x1100;
}

/// What was saved of the bus and its functions, damaged perhaps, goes back.
void restore(RootBus& bus, Input& input) {
    (void)bus.unsaveable();
    require(bus.drain());
    unsigned count = 0;
    bus.for_each([&](devices::pci::Address, Function& one) { count += one.name().empty() ? 0 : 1; });
    require(count >= 2);
    auto saved = tests::save(bus);
    fuzz::damage(saved, input);
    (void)tests::restore(bus, std::move(saved));
    bus.resume();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    fakes::FakeIrqs irqs;
    irqs.capacity = 8;
    fakes::PciMachine machine;
    std::array<std::shared_ptr<Target>, 2> targets{std::make_shared<Target>(irqs, 0x0186),
                                                   std::make_shared<Target>(irqs, 0x0004)};
    for (const auto& target : targets)
        require(machine.root->add(target).has_value());
    Input input{std::as_bytes(std::span{data, size})};
    bool torn = false;
    while (!input.empty()) {
        const auto kind = input.take<std::uint8_t>();
        const auto how = input.take<std::uint8_t>();
        const auto& target = targets[kind / 8 % 2];
        if (kind % 8 < 3) // and 0xcf9, which resets the machine
            access(machine.ports, 0xcf8 + kind % 8U * 2 + (kind >= 240 ? 1 : 0), how, input.take<std::uint32_t>());
        else if (kind % 8 == 3)
            access(machine.ports, target->config().bar_address(1) + kind / 16, how, input.take<std::uint32_t>());
        else if (kind % 8 < 7) {
            const auto address = memory_address(input, *target);
            access(machine.memory, address, how, input.take<std::uint64_t>());
        } else {
            const devices::pci::Address last{2, 0};
            if (!machine.root->find(last))
                require(machine.root->add(targets[1], last).has_value());
            else if (how % 2 == 0 || torn)
                require(machine.root->remove(last).has_value());
            else // what is left of it stays until it is removed
                require(machine.root->tear_out(last).has_value());
            torn = how % 2 != 0 && !torn && machine.root->find(last) && machine.root->find(last) != targets[1];
            require(!machine.root->add(targets[0], devices::pci::Address{1, 0}) && !machine.root->remove({9, 0}) &&
                    !machine.root->tear_out({9, 0}) && !machine.root->add(targets[1], devices::pci::Address{99, 0}));
            if (how >= 250)
                target->reset();
            else if (how >= 200)
                restore(*machine.root, input);
        }
    }
    return 0;
}
