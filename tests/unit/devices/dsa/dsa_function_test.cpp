// SPDX-License-Identifier: Apache-2.0
// The PCI function with a guest's real PASIDs behind it.
#include "devices/dsa/function.hpp"

#include <atomic>

#include "tests/catch.hpp"
#include "tests/fakes/dsa_driver.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/fakes/pci_function.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/registers.hpp"

namespace inox::dsa_function_test {

using namespace devices::dsa;
using tests::eventually;
namespace pci = devices::pci;

namespace {

struct Bench {
    fakes::FakeIrqs irqs{};
    fakes::PasidGuest guest{};
    DirectMemory direct{guest.memory};
    fakes::PciMachine machine{}; // releases the function before what that needs
    std::shared_ptr<DsaFunction> function{DsaFunction::create({.queues = 3, .entries = 48, .engines = 2},
                                                              {irqs, direct, nullptr, guest.service.get(), {}})
                                              .value()};
    pci::Address at{*machine.root->add(function, pci::Address{7, 0})};

    static constexpr std::uint64_t registers = 0xc8000000;
    static constexpr std::uint64_t portals = 0xc8010000;

    std::uint32_t get(std::uint64_t offset) { return tests::in<std::uint32_t>(machine.memory, registers + offset); }
    void set(std::uint64_t offset, std::uint32_t value) {
        tests::out<std::uint32_t>(machine.memory, registers + offset, value);
    }
    unsigned extended(std::uint16_t id) {
        for (unsigned offset = 0x100; offset != 0; offset = machine.get<std::uint32_t>(at, offset) >> 20)
            if (machine.get<std::uint16_t>(at, offset) == id)
                return offset;
        return 0;
    }
    void place() {
        machine.set<std::uint32_t>(at, 0x10, registers);
        machine.set<std::uint32_t>(at, 0x14, 0);
        machine.set<std::uint32_t>(at, 0x18, portals);
        machine.set<std::uint32_t>(at, 0x1c, 0);
        machine.decode(at, pci::command_bit::memory | pci::command_bit::bus_master);
    }
    unsigned conventional(std::uint8_t id) {
        for (unsigned offset = machine.get<std::uint8_t>(at, 0x34); offset != 0;
             offset = machine.get<std::uint8_t>(at, offset + 1))
            if (machine.get<std::uint8_t>(at, offset) == id)
                return offset;
        return 0;
    }
    void enable_capabilities() {
        machine.set<std::uint16_t>(at, extended(0x1b) + 6, 5);
        machine.set<std::uint16_t>(at, extended(0x0f) + 6, 0x8000);
        machine.set<std::uint16_t>(at, extended(0x13) + 4, 1);
    }
    std::uint32_t command(Command code, std::uint32_t operand = 0) {
        set(reg::cmd, static_cast<std::uint32_t>(code) << 20 | operand);
        return eventually([&] { return (get(reg::cmdsts) & cmdsts_active) == 0; }) ? get(reg::cmdsts) : 0xffffU;
    }
    /// Queue 0 shared, the others dedicated, queue 2 for a PASID.
    bool bring_up(std::uint32_t pasid) {
        for (unsigned queue = 0; queue < 3; ++queue) {
            const std::uint64_t base = reg::wqcfg + queue * queue_stride;
            set(base, 16);
            set(base + 4, 16);
            set(base + 8, 1U << 4 | (queue == 0 ? wq::pasid_enable : wq::dedicated) |
                              (queue == 2 ? wq::pasid_enable | pasid << 8 : 0));
            set(base + 12, 31U | 4U << 5);
        }
        set(reg::grpcfg, 7);
        set(reg::grpcfg + 32, 3);
        if (command(Command::enable_device) != 0)
            return false;
        for (unsigned queue = 0; queue < 3; ++queue)
            if (command(Command::enable_queue, queue) != 0)
                return false;
        return true;
    }
    /// 64 pages.
    iommu::PageTable table(unsigned index, std::uint64_t address, std::uint64_t physical) {
        auto tables = guest.tables(index);
        for (std::uint64_t offset = 0; offset < 64 * page_size; offset += page_size)
            tables.map(address + offset, physical + offset);
        return fakes::PasidGuest::bound(tables);
    }
    std::array<std::byte, 64> bytes(const Descriptor& descriptor) {
        std::array<std::byte, 64> out;
        std::memcpy(out.data(), &descriptor, 64);
        return out;
    }
    unsigned references(iommu::HostPasid host) {
        const auto info = guest.core.info(host);
        return info ? info->references[static_cast<std::size_t>(iommu::IoasidHolder::device)] : 0;
    }
};

constexpr auto endpoint = iommu::pci_endpoint(7, 0);

} // namespace

TEST_CASE("the function is what drivers look for") {
    Bench bench;
    CHECK(bench.machine.get<std::uint32_t>(bench.at, 0) == 0x0b258086);
    CHECK(bench.machine.get<std::uint32_t>(bench.at, 8) >> 8 == 0x088000);
    CHECK(bench.extended(0x1b) != 0);
    CHECK(bench.machine.get<std::uint16_t>(bench.at, bench.extended(0x1b) + 4) == (20U << 8 | 4));
    CHECK(bench.extended(0x0f) != 0);
    CHECK(bench.extended(0x13) != 0);
    // What Linux requires before it enables PASIDs, page requests and resets.
    const unsigned express = bench.conventional(0x10);
    REQUIRE(express != 0);
    CHECK((bench.machine.get<std::uint32_t>(bench.at, express + 0x24) >> 21 & 1) == 1);
    CHECK((bench.machine.get<std::uint32_t>(bench.at, express + 4) >> 28 & 1) == 1);
    CHECK((bench.machine.get<std::uint16_t>(bench.at, bench.extended(0x13) + 6) & 0x8100) == 0x8100);
    bench.place();
    CHECK(bench.get(reg::version) == 0x100);
    // The portals of three queues need 48 KiB, and a BAR is a power of two.
    bench.machine.set<std::uint32_t>(bench.at, 0x18, 0xffffffff);
    CHECK((bench.machine.get<std::uint32_t>(bench.at, 0x18) & ~0xfU) == 0xffff0000);
}

TEST_CASE("the device sees bus mastering, PASID, ATS and page requests as the driver set them") {
    Bench bench;
    bench.place();
    bench.machine.set<std::uint16_t>(bench.at, bench.extended(0x1b) + 6, 1);
    CHECK(bench.command(Command::enable_device) == static_cast<unsigned>(CommandError::pasid_config));
    bench.enable_capabilities();
    bench.machine.decode(bench.at, pci::command_bit::memory);
    CHECK(bench.command(Command::enable_device) == static_cast<unsigned>(CommandError::bus_master_off));
    bench.machine.decode(bench.at, pci::command_bit::memory | pci::command_bit::bus_master);
    CHECK(bench.command(Command::enable_device) == 0);
}

TEST_CASE("a command's interrupt goes out by MSI-X") {
    Bench bench;
    bench.place();
    bench.set(reg::msix_table, 0xfee01000);
    bench.set(reg::msix_table + 8, 0x41);
    bench.set(reg::msix_table + 12, 0);
    const unsigned msix = bench.conventional(0x11);
    REQUIRE(msix != 0);
    CHECK((bench.machine.get<std::uint16_t>(bench.at, msix + 2) & 0x7ff) == 3);
    bench.machine.set<std::uint16_t>(bench.at, msix + 2, 0x8000);
    bench.set(reg::cmd, static_cast<std::uint32_t>(Command::reset_device) << 20 | cmd_interrupt);
    REQUIRE(bench.irqs.vectors.size() == 1);
    CHECK(bench.irqs.vectors[0]->delivered == std::vector<MsiMessage>{{0xfee01000, 0x41}});
}

TEST_CASE("work of two PASIDs, their freeing in the middle of it, and no reference left") {
    Bench bench;
    bench.place();
    bench.enable_capabilities();
    const auto first = bench.guest.alloc();
    const auto second = bench.guest.alloc();
    // The same device address leads to different memory.
    constexpr std::uint64_t address = 0x7f0000000000;
    const auto map = [&](iommu::GuestPasid pasid, unsigned index, std::uint64_t physical) {
        REQUIRE(bench.guest.service->bind(endpoint, pasid, bench.table(index, address, physical)) ==
                iommu::PasidStatus::ok);
    };
    map(first, 0, 0x400000);
    map(second, 1, 0x600000);
    const auto host1 = bench.guest.host(first), host2 = bench.guest.host(second);
    REQUIRE(bench.bring_up(second.raw()));
    CHECK(bench.references(host2) == 1); // the reference of queue 2

    auto descriptor = fakes::DsaDriver::make(Opcode::fill, 0x1111111111111111, address + 0x1000, 0x100, address);
    descriptor.pasid_word = host1.raw();
    CHECK(bench.machine.memory.enqueue(Gpa{Bench::portals + 0x1000}, bench.bytes(descriptor)));
    const auto status = [&](std::uint64_t at) {
        auto& byte = bench.guest.memory.host(Gpa{at}, 1)->front();
        return std::to_integer<unsigned>(std::atomic_ref{byte}.load(std::memory_order_acquire));
    };
    CHECK(eventually([&] { return status(0x400000) == 1; }));
    CHECK(bench.guest.memory.read<Le64>(Gpa{0x401000}) == 0x1111111111111111U);
    CHECK(status(0x600000) == 0);
    bench.machine.memory.write_wide(Gpa{Bench::portals + 2 * portal_stride}, bench.bytes(descriptor));
    CHECK(eventually([&] { return status(0x600000) == 1; }));
    CHECK(bench.guest.memory.read<Le64>(Gpa{0x601000}) == 0x1111111111111111U);
    CHECK(eventually([&] { return bench.references(host1) == 0; }));

    // The PASID is freed during long work.
    descriptor = fakes::DsaDriver::make(Opcode::memmove, address, address + 0x20000, 0x20000, address);
    for (unsigned round = 0; round < 20; ++round) {
        descriptor.pasid_word = host1.raw();
        (void)bench.machine.memory.enqueue(Gpa{Bench::portals}, bench.bytes(descriptor));
        bench.machine.memory.write_wide(Gpa{Bench::portals + 2 * portal_stride}, bench.bytes(descriptor));
    }
    REQUIRE(bench.guest.service->free(first) == iommu::PasidStatus::ok);
    REQUIRE(bench.guest.service->free(second) == iommu::PasidStatus::ok);
    CHECK_FALSE(bench.machine.memory.enqueue(Gpa{Bench::portals + 2 * portal_stride}, bench.bytes(descriptor)));
    CHECK(eventually([&] { return bench.guest.core.ids(bench.guest.service->set()).empty(); }));
    CHECK(eventually([&] { return bench.get(reg::wqcfg + 2 * queue_stride + 24) >> 30 == 0; })); // off
    CHECK(bench.get(reg::wqcfg + 24) >> 30 == 1);                                                // still on
    CHECK(bench.guest.core.refused_puts() == 0);
    CHECK(bench.command(Command::drain_all) == 0);
}

TEST_CASE("a function-level reset leaves the function as after power-on, whatever it was at") {
    Bench bench;
    const auto pasid = bench.guest.alloc();
    constexpr std::uint64_t address = 0x7f0000000000;
    REQUIRE(bench.guest.service->bind(endpoint, pasid, bench.table(0, address, 0x400000)) == iommu::PasidStatus::ok);
    const auto host = bench.guest.host(pasid);
    const unsigned express = bench.conventional(0x10), msix = bench.conventional(0x11);
    auto descriptor = fakes::DsaDriver::make(Opcode::memmove, address, address + 0x20000, 0x20000, address + 0x10000);
    descriptor.pasid_word = host.raw();
    for (unsigned round = 0; round < 3; ++round) {
        bench.place();
        bench.enable_capabilities();
        bench.machine.set<std::uint16_t>(bench.at, msix + 2, 0x8000);
        bench.machine.set<std::uint8_t>(bench.at, pci::reg::interrupt_line, 7);
        REQUIRE(bench.bring_up(pasid.raw()));
        bench.set(reg::msix_perm + 8, pasid.raw() << 12 | permission_pasid_enable);
        tests::out<std::uint64_t>(bench.machine.memory, Bench::portals + 0x40, 0); // an incomplete submission
        for (unsigned i = 0; i < 12; ++i)
            (void)bench.machine.memory.enqueue(Gpa{Bench::portals}, bench.bytes(descriptor));
        bench.machine.set<std::uint16_t>(bench.at, express + 8, 0x8000);

        CHECK(bench.machine.get<std::uint16_t>(bench.at, express + 8) == 0);
        CHECK(bench.machine.get<std::uint16_t>(bench.at, pci::reg::command) == 0);
        CHECK((bench.machine.get<std::uint32_t>(bench.at, 0x10) & ~0xfU) == 0);
        CHECK(bench.machine.get<std::uint8_t>(bench.at, pci::reg::interrupt_line) == 0);
        CHECK(bench.machine.get<std::uint16_t>(bench.at, bench.extended(0x1b) + 6) == 0);
        CHECK(bench.machine.get<std::uint16_t>(bench.at, bench.extended(0x0f) + 6) == 0);
        CHECK((bench.machine.get<std::uint16_t>(bench.at, bench.extended(0x13) + 4) & 1) == 0);
        CHECK((bench.machine.get<std::uint16_t>(bench.at, msix + 2) & 0xc000) == 0);
        CHECK(bench.machine.get<std::uint32_t>(bench.at, 0) == 0x0b258086);
        CHECK_FALSE(bench.machine.memory.enqueue(Gpa{Bench::portals}, bench.bytes(descriptor)));

        bench.place();
        CHECK(eventually([&] { return bench.get(reg::cmdsts) == 0; }));
        CHECK(bench.references(host) == 0);
        for (const auto offset : {reg::gensts, reg::wqcfg, reg::grpcfg, reg::gencfg, reg::genctrl, reg::intcause,
                                  reg::swerr, reg::msix_perm + 8})
            CHECK(bench.get(offset) == 0);
        // The slot starts anew: the rest of the bytes alone is no submission.
        for (unsigned i = 8; i < 64; i += 8)
            tests::out<std::uint64_t>(bench.machine.memory, Bench::portals + 0x40 + i, 0);
        CHECK(tests::in<std::uint32_t>(bench.machine.memory, Bench::portals + 0x40) == 0xffffffff);
    }
    // The other bits of the register do nothing.
    bench.place();
    bench.machine.set<std::uint16_t>(bench.at, express + 8, 0x7fff);
    CHECK(bench.machine.get<std::uint16_t>(bench.at, express + 8) == 0);
    CHECK(bench.get(reg::version) == 0x100);
}

TEST_CASE("a function taken from the bus gives its PASIDs back") {
    Bench bench;
    bench.place();
    bench.enable_capabilities();
    const auto pasid = bench.guest.alloc();
    const auto table = bench.table(0, 0x7f0000000000, 0x400000);
    REQUIRE(bench.guest.service->bind(endpoint, pasid, table) == iommu::PasidStatus::ok);
    REQUIRE(bench.bring_up(pasid.raw()));
    REQUIRE(bench.machine.root->remove(bench.at));
    CHECK(bench.references(bench.guest.host(pasid)) == 0);
    CHECK(bench.guest.service->bind(endpoint, pasid, table) == iommu::PasidStatus::unknown_endpoint);
}

} // namespace inox::dsa_function_test
