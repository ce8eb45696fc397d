// SPDX-License-Identifier: Apache-2.0
// Configuration space, places of BARs and MSI-X between a save and a restore.
#include "devices/pci/msix.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/state.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::devices_pci_state_test {

using namespace devices::pci;

using nlohmann::json;

namespace {

constexpr auto second_at = static_cast<std::uint32_t>(layout::pci_bars_32.start().raw());
constexpr std::uint32_t first_at = second_at + 0x1000000;

/// A function with MSI-X in its BAR.
class WithMsix final : public Function {
public:
    explicit WithMsix(Irqs& irqs)
        : Function{{.vendor = 0x1af4, .device = 0x1042}},
          msix{irqs, {.vectors = 3, .table_bar = 0, .table_offset = 0, .pba_bar = 0, .pba_offset = 0x800}} {
        REQUIRE(config().add_bar(0, {.kind = BarKind::memory32, .size = page_size}));
        capability = msix.add_capability(config()).value();
    }
    [[nodiscard]] std::string_view name() const override { return "with-msix"; }
    void bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept override {
        (void)msix.bar_read(bar, offset, data);
    }
    void bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept override {
        (void)msix.bar_write(bar, offset, data);
    }
    void on_bar_mapped(unsigned, Gpa where) noexcept override { mapped = where.raw(); }
    void on_bar_unmapped(unsigned) noexcept override { mapped = 0; }
    void state(State& state) override { msix.state(state); }
    void resume() noexcept override { msix.resume(); }
    Msix msix;
    unsigned capability{};
    std::uint64_t mapped{};
};

struct Machine {
    fakes::PciMachine pci{};
    fakes::FakeIrqs irqs{};
    std::shared_ptr<WithMsix> first{std::make_shared<WithMsix>(irqs)};
    std::shared_ptr<fakes::PciFunction> second{std::make_shared<fakes::PciFunction>("second")};
    devices::pci::Address at_first{};
    devices::pci::Address at_second{};

    Machine() {
        REQUIRE(second->config().add_bar(2, {.kind = BarKind::memory64, .size = 64 * KiB}));
        at_first = pci.root->add(first).value();
        at_second = pci.root->add(second).value();
    }
    ~Machine() { pci.root.reset(); }
    std::uint64_t address(unsigned vector) { return first->mapped + 16 * vector; }
    void program(unsigned vector, std::uint32_t data, bool masked) {
        tests::out<std::uint32_t>(pci.memory, address(vector), 0xfee00000);
        tests::out<std::uint32_t>(pci.memory, address(vector) + 8, data);
        tests::out<std::uint32_t>(pci.memory, address(vector) + 12, masked ? 1 : 0);
    }
    std::vector<std::uint32_t> take_delivered() {
        std::vector<std::uint32_t> data;
        for (const auto& vector : irqs.vectors)
            for (const auto& message : std::exchange(vector->delivered, {}))
                data.push_back(message.data);
        return data;
    }
};

/// A guest that has moved the BARs, each to where the other was at first as far as it fits, and uses MSI-X.
void use(Machine& machine) {
    auto& pci = machine.pci;
    pci.set<std::uint32_t>(machine.at_first, reg::bar0, first_at);
    pci.set<std::uint32_t>(machine.at_second, reg::bar0 + 8, second_at);
    pci.set<std::uint32_t>(machine.at_second, reg::bar0 + 12, 0);
    pci.decode(machine.at_first, command_bit::memory | command_bit::bus_master);
    pci.decode(machine.at_second, command_bit::memory);
    pci.set<std::uint16_t>(machine.at_first, machine.first->capability + 2, 0x8000);
    machine.program(0, 0x40, false);
    machine.program(1, 0x41, true);
    machine.first->msix.trigger(0);
    machine.first->msix.trigger(1); // masked: stays pending
    pci.select(machine.at_second, reg::device);
}

} // namespace

TEST_CASE("a restored bus has the BARs where the guest put them, and interrupts nobody") {
    Machine old;
    use(old);
    CHECK(old.take_delivered() == std::vector<std::uint32_t>{0x40});
    const auto saved = tests::save(*old.pci.root);

    Machine fresh;
    REQUIRE(tests::restore(*fresh.pci.root, saved));
    CHECK(tests::save(*fresh.pci.root) == saved);
    CHECK(fresh.first->mapped == first_at);
    CHECK(fresh.second->mapped == std::map<unsigned, std::uint64_t>{{2, second_at}});
    CHECK(tests::in<std::uint32_t>(fresh.pci.memory, second_at + 0x10) == ((3U << 24) | 0x10));
    CHECK(tests::in<std::uint16_t>(fresh.pci.ports, 0xcfc + 2) == 0x1041); // the selected register
    fresh.pci.root->resume();
    CHECK(fresh.take_delivered().empty());

    CHECK(tests::in<std::uint32_t>(fresh.pci.memory, fresh.first->mapped + 0x800) == 2); // pending
    fresh.first->msix.trigger(0);
    CHECK(fresh.take_delivered() == std::vector<std::uint32_t>{0x40});
    fresh.program(1, 0x51, false);
    CHECK(fresh.take_delivered() == std::vector<std::uint32_t>{0x51});
    fresh.pci.decode(fresh.at_first, 0);
    CHECK(fresh.first->mapped == 0);
}

TEST_CASE("a vector that is pending and not masked interrupts once the machine resumes") {
    Machine old;
    use(old);
    auto saved = tests::save(*old.pci.root);
    saved[old.at_first.text()]["vectors"][0]["pending"] = true;
    Machine fresh;
    REQUIRE(tests::restore(*fresh.pci.root, saved));
    CHECK(fresh.take_delivered().empty());
    fresh.pci.root->resume();
    CHECK(fresh.take_delivered() == std::vector<std::uint32_t>{0x40});
    fresh.pci.root->resume();
    CHECK(fresh.take_delivered().empty());
}

TEST_CASE("a BAR outside the windows, or on another, is not mapped, as when the guest put it there") {
    const tests::LogCapture log;
    Machine old;
    use(old);
    for (const std::uint32_t where : {second_at, 0x00100000U, 0xfee00000U}) {
        auto saved = tests::save(*old.pci.root);
        auto& bytes = saved[old.at_first.text()]["config"]["registers"].get_binary();
        for (unsigned i = 0; i < 4; ++i)
            bytes[reg::bar0 + i] = static_cast<std::uint8_t>(where >> (8 * i));
        Machine fresh;
        REQUIRE(tests::restore(*fresh.pci.root, saved));
        const bool first_wins = where == second_at;
        CHECK((fresh.first->mapped != 0) == first_wins);
        CHECK(fresh.second->mapped.empty() == first_wins);
    }
}

TEST_CASE("another set of PCI devices is refused by name") {
    Machine old;
    const auto saved = tests::save(*old.pci.root);
    Machine less;
    REQUIRE(less.pci.root->remove(less.at_second));
    CHECK(tests::restore(*less.pci.root, saved).error().what.find("a PCI device that this machine does not have") !=
          std::string::npos);
    const auto fewer = tests::save(*less.pci.root);
    CHECK(tests::restore(*old.pci.root, fewer).error().what.find("'second' at 0000:00:02.0") != std::string::npos);
    Machine moved;
    REQUIRE(moved.pci.root->remove(moved.at_second));
    REQUIRE(moved.pci.root->add(moved.second, devices::pci::Address{7, 0}));
    CHECK_FALSE(tests::restore(*moved.pci.root, saved));
    auto other = saved;
    other[old.at_first.text()]["config"]["registers"].get_binary()[0] = 0x86; // the vendor
    Machine fresh;
    CHECK(tests::restore(*fresh.pci.root, other).error().what.find("register 0 is another device's") !=
          std::string::npos);
}

TEST_CASE("what is left of a device that was torn out cannot be saved") {
    Machine machine;
    CHECK_FALSE(machine.pci.root->unsaveable());
    REQUIRE(machine.pci.root->tear_out(machine.at_second));
    REQUIRE(machine.pci.root->unsaveable());
    CHECK(machine.pci.root->unsaveable()->find("removed by force") != std::string::npos);
}

TEST_CASE("damage to a bus's state does no harm") {
    const tests::LogCapture log;
    Machine old;
    use(old);
    const auto saved = tests::save(*old.pci.root);
    tests::for_each_damage(saved, [&](const json& damaged, bool must_fail) {
        Machine fresh;
        const bool taken = tests::restore(*fresh.pci.root, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        if (!taken)
            return;
        fresh.pci.root->resume();
        for (unsigned vector = 0; vector < 4; ++vector)
            fresh.first->msix.trigger(vector);
        fresh.pci.decode(fresh.at_first, 0);
        fresh.pci.decode(fresh.at_first, command_bit::memory);
    });
}

} // namespace inox::devices_pci_state_test
