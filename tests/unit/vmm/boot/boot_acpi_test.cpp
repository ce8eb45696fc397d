// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/acpi.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>

#include "devices/pci/root_bus.hpp"
#include "tests/catch.hpp"
#include "vmm/boot/aml.hpp"
#include "vmm/boot/dsdt.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot_acpi_test {

using namespace inox::boot;

namespace {

using Bytes = std::vector<std::byte>;

/// The tables that a guest finds, starting from the RSDP.
class Tables {
public:
    explicit Tables(const AcpiConfig& config) {
        const auto memory = GuestMemory::create(2 * MiB, HugePages::none).value();
        const auto rsdp = write_acpi_tables(config, memory);
        REQUIRE(rsdp);
        REQUIRE(*rsdp == Gpa{0xe0000});
        memory_.resize(2 * MiB);
        REQUIRE(memory.read(Gpa{0}, memory_));
        rsdp_ = bytes(rsdp->raw(), 36);
        xsdt_ = table(number<std::uint64_t>(rsdp_, 24));
        for (std::size_t at = 36; at < xsdt_.size(); at += 8)
            tables_.push_back(table(number<std::uint64_t>(xsdt_, at)));
    }

    template <class T> static T number(const Bytes& bytes, std::size_t at) {
        return load_le<T>(std::span{bytes}.subspan(at, sizeof(T)));
    }
    static std::string signature(const Bytes& table) {
        return {reinterpret_cast<const char*>(table.data()), 4}; // NOLINT: bytes as text
    }
    [[nodiscard]] const Bytes& rsdp() const { return rsdp_; }
    [[nodiscard]] const Bytes& xsdt() const { return xsdt_; }
    [[nodiscard]] const std::vector<Bytes>& all() const { return tables_; }
    [[nodiscard]] Bytes find(const std::string& name) const {
        const auto found = std::ranges::find_if(tables_, [&](const Bytes& t) { return signature(t) == name; });
        return found == tables_.end() ? Bytes{} : *found;
    }
    [[nodiscard]] Bytes dsdt() const { return table(number<std::uint64_t>(find("FACP"), 140)); }

private:
    [[nodiscard]] Bytes bytes(std::size_t at, std::size_t size) const {
        REQUIRE(layout::acpi_tables.contains(*Range<Gpa>::sized(Gpa{at}, size)));
        return {memory_.begin() + static_cast<std::ptrdiff_t>(at),
                memory_.begin() + static_cast<std::ptrdiff_t>(at + size)};
    }
    [[nodiscard]] Bytes table(std::size_t at) const { return bytes(at, number<std::uint32_t>(bytes(at, 36), 4)); }

    Bytes memory_;
    Bytes rsdp_;
    Bytes xsdt_;
    std::vector<Bytes> tables_;
};

unsigned sum(const Bytes& bytes) {
    return std::accumulate(bytes.begin(), bytes.end(), 0U,
                           [](unsigned total, std::byte b) { return (total + std::to_integer<unsigned>(b)) & 0xff; });
}

AcpiConfig everything() {
    AcpiConfig config{.cpus = 4, .iommu = 8};
    for (unsigned i = 0; i < 20; ++i)
        config.virtio_mmio.push_back({*Range<Gpa>::sized(layout::mmio_devices.start() + i * 0x1000, 0x1000), 5 + i});
    return config;
}

bool contains(const Bytes& haystack, const aml::Bytes& needle) {
    const auto as_bytes = std::as_bytes(std::span{needle});
    return !std::ranges::search(haystack, as_bytes).empty();
}

} // namespace

TEST_CASE("the RSDP leads to every table, and every checksum is right") {
    const Tables tables{everything()};
    CHECK(Tables::signature(tables.rsdp()) == "RSD ");
    CHECK(sum(tables.rsdp()) == 0);
    CHECK(sum({tables.rsdp().begin(), tables.rsdp().begin() + 20}) == 0);
    CHECK(Tables::signature(tables.xsdt()) == "XSDT");
    CHECK(sum(tables.xsdt()) == 0);
    std::vector<std::string> names;
    for (const Bytes& table : tables.all()) {
        CHECK(sum(table) == 0);
        names.push_back(Tables::signature(table));
    }
    CHECK(names == std::vector<std::string>{"FACP", "APIC", "MCFG", "VIOT"});
    CHECK(Tables::signature(tables.dsdt()) == "DSDT");
    CHECK(sum(tables.dsdt()) == 0);
}

TEST_CASE("the FADT says hardware-reduced, an 8042, no RTC, and where to sleep and reset") {
    const Bytes fadt = Tables{everything()}.find("FACP");
    REQUIRE(fadt.size() == 276);
    const auto boot_architecture = Tables::number<std::uint16_t>(fadt, 109);
    CHECK(boot_architecture == (1 << 1 | 1 << 2 | 1 << 5));
    const auto flags = Tables::number<std::uint32_t>(fadt, 112);
    CHECK((flags & (1U << 20)) != 0);
    CHECK((flags & (1U << 10)) != 0);
    const auto check_port = [&](std::size_t at, std::uint64_t port) {
        CHECK(Tables::number<std::uint32_t>(fadt, at) == 0x01000801); // I/O, 8 bits, byte access
        CHECK(Tables::number<std::uint64_t>(fadt, at + 4) == port);
    };
    check_port(116, 0x602);
    CHECK(fadt[128] == std::byte{1});
    check_port(244, 0x600);
    check_port(256, 0x601);
}

TEST_CASE("the MADT lists every vCPU and one IO-APIC") {
    const Bytes madt = Tables{{.cpus = 32}}.find("APIC");
    CHECK(Tables::number<std::uint32_t>(madt, 36) == 0xfee00000);
    CHECK(Tables::number<std::uint32_t>(madt, 40) == 0);
    REQUIRE(madt.size() == 44 + 32 * 8 + 12);
    for (unsigned cpu = 0; cpu < 32; ++cpu) {
        CHECK(Tables::number<std::uint32_t>(madt, 44 + cpu * 8) == (0x0800U | cpu << 16 | cpu << 24));
        CHECK(Tables::number<std::uint32_t>(madt, 48 + cpu * 8) == 1);
    }
    CHECK(Tables::number<std::uint64_t>(madt, 44 + 32 * 8) == 0xfec00000'00000c01);
}

TEST_CASE("APIC ids from 255 up need x2APIC entries") {
    const Bytes madt = Tables{{.cpus = 257}}.find("APIC");
    REQUIRE(madt.size() == 44 + 255 * 8 + 2 * 16 + 12);
    const std::size_t first = 44 + 255 * 8;
    CHECK(Tables::number<std::uint16_t>(madt, first) == 0x1009);
    CHECK(Tables::number<std::uint32_t>(madt, first + 4) == 255);
    CHECK(Tables::number<std::uint32_t>(madt, first + 12) == 255);
}

TEST_CASE("MCFG and host bridge are there only with PCI") {
    const Bytes mcfg = Tables{everything()}.find("MCFG");
    REQUIRE(mcfg.size() == 60);
    CHECK(Tables::number<std::uint64_t>(mcfg, 44) == 0xe0000000);
    CHECK(Tables::number<std::uint32_t>(mcfg, 52) == 0); // segment 0, buses 0 to 0
    const Tables without{{.pci = false}};
    CHECK(without.all().size() == 2);
    CHECK_FALSE(contains(without.dsdt(), aml::eisa_id("PNP0A08")));
    CHECK(contains(Tables{everything()}.dsdt(), aml::eisa_id("PNP0A08")));
}

TEST_CASE("VIOT puts every function but the host bridge's slot and the IOMMU behind the IOMMU") {
    struct Part {
        unsigned first, last;
    };
    const auto [iommu, parts] = GENERATE(table<std::uint16_t, std::vector<Part>>(
        {{8, {{9, 0xffff}}}, {0x50, {{8, 0x4f}, {0x51, 0xffff}}}, {0xffff, {{8, 0xfffe}}}}));
    const Bytes viot = Tables{AcpiConfig{.iommu = iommu}}.find("VIOT");
    REQUIRE(viot.size() == 48 + 16 + 24 * parts.size());
    CHECK(Tables::number<std::uint16_t>(viot, 36) == parts.size() + 1);
    CHECK(Tables::number<std::uint16_t>(viot, 38) == 48);
    CHECK(Tables::number<std::uint8_t>(viot, 48) == 3);
    CHECK(Tables::number<std::uint16_t>(viot, 50) == 16);
    CHECK(Tables::number<std::uint16_t>(viot, 54) == iommu);
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const std::size_t at = 64 + 24 * i;
        CHECK(Tables::number<std::uint8_t>(viot, at) == 1);
        CHECK(Tables::number<std::uint16_t>(viot, at + 2) == 24);
        CHECK(Tables::number<std::uint32_t>(viot, at + 4) == parts[i].first); // an endpoint's number is its bus address
        CHECK(Tables::number<std::uint32_t>(viot, at + 8) == 0);
        CHECK(Tables::number<std::uint16_t>(viot, at + 12) == parts[i].first);
        CHECK(Tables::number<std::uint16_t>(viot, at + 14) == parts[i].last);
        CHECK(Tables::number<std::uint16_t>(viot, at + 16) == 48);
    }
    CHECK(Tables{AcpiConfig{}}.all().size() == 3);
}

TEST_CASE("the interrupt routing of the DSDT is that of the PCI bus") {
    const Bytes dsdt = Tables{everything()}.dsdt();
    for (unsigned slot = 0; slot < 32; ++slot)
        for (unsigned pin = 1; pin <= 4; ++pin)
            CHECK(contains(dsdt, aml::package({aml::integer(slot << 16 | 0xffff), aml::integer(pin - 1),
                                               aml::integer(0), aml::integer(devices::pci::intx_gsi(slot, pin))})));
}

TEST_CASE("every slot but the host bridge's can be filled and emptied while the guest runs") {
    const Bytes dsdt = Tables{everything()}.dsdt();
    for (unsigned slot = 1; slot < 32; ++slot) {
        const std::string object = format("S%02X", slot);
        const aml::Bytes mask = aml::integer(std::uint64_t{1} << slot);
        CHECK(contains(dsdt,
                       aml::concat({aml::name("_ADR", aml::integer(slot << 16)), aml::name("_SUN", aml::integer(slot)),
                                    aml::method("_EJ0", 1, {aml::store(mask, aml::path("EJCT"))})})));
        CHECK(contains(dsdt, aml::if_true(aml::bit_and(aml::local(0), mask, aml::nowhere()),
                                          {aml::notify(object, 1)}))); // device check
        CHECK(contains(dsdt, aml::if_true(aml::bit_and(aml::local(1), mask, aml::nowhere()),
                                          {aml::notify(object, 3)}))); // eject request
    }
    CHECK_FALSE(contains(dsdt, aml::path("S00")));
    CHECK(contains(dsdt, aml::port_region("PHPR", layout::port_pci_hotplug)));
    CHECK(contains(dsdt, aml::string("ACPI0013")));
    CHECK_FALSE(contains(Tables{{.pci = false}}.dsdt(), aml::path("NEWS")));
}

TEST_CASE("every machine has a power button whose press its event device passes on") {
    for (const bool pci : {true, false}) {
        const auto dsdt = Tables{{.pci = pci}}.dsdt();
        CHECK(contains(dsdt, aml::name("_HID", aml::eisa_id("PNP0C0C"))));
        CHECK(contains(dsdt, aml::string("ACPI0013")));
        CHECK(contains(dsdt, aml::notify("\\_SB.PWRB", 0x80)));
        CHECK(contains(dsdt, aml::byte_registers("BTNR", {"BTNS"})));
    }
}

TEST_CASE("every machine has a generation id and a vmclock, whose changes its event device passes on") {
    for (const bool pci : {true, false}) {
        const auto dsdt = Tables{{.pci = pci}}.dsdt();
        CHECK(contains(dsdt, aml::string("VMGENCTR")));
        CHECK(contains(dsdt, aml::notify("\\_SB.VGEN", 0x80)));
        CHECK(contains(dsdt, aml::string("AMZNC10C")));
        CHECK(contains(dsdt, aml::memory32_fixed(*Range<Gpa>::sized(layout::vm_clock, 4 * KiB))));
        CHECK(contains(dsdt, aml::notify("\\_SB.VCLK", 0x80)));
    }
}

TEST_CASE("each virtio-mmio device has a DSDT entry with its registers and interrupt") {
    const AcpiConfig config = everything();
    const Bytes dsdt = Tables{config}.dsdt();
    for (const AcpiMmioDevice& device : config.virtio_mmio)
        CHECK(contains(dsdt, aml::resources({aml::memory32_fixed(device.registers),
                                             aml::interrupt(device.gsi, aml::IrqMode::edge_high)})));
}

TEST_CASE("Linux's pvpanic driver finds its device, with PCI and without") {
    for (const bool pci : {false, true}) {
        const Bytes dsdt = Tables{{.pci = pci}}.dsdt();
        CHECK(contains(dsdt, aml::string("QEMU0001")));
        CHECK(contains(dsdt, aml::io_ports(layout::port_pvpanic)));
    }
}

TEST_CASE("more tables than their place holds are refused") {
    AcpiConfig config;
    config.virtio_mmio.assign(4000, {*Range<Gpa>::sized(layout::mmio_devices.start(), 0x1000), 5});
    const auto memory = GuestMemory::create(2 * MiB, HugePages::none).value();
    const auto result = write_acpi_tables(config, memory);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::no_resource);
}

TEST_CASE("AML terms are encoded as the specification says") {
    using namespace aml;
    using Raw = std::vector<std::uint8_t>;
    CHECK(integer(0) == Raw{0});
    CHECK(integer(1) == Raw{1});
    CHECK(integer(0x12) == Raw{0x0a, 0x12});
    CHECK(integer(0x1234) == Raw{0x0b, 0x34, 0x12});
    CHECK(integer(0x12345678) == Raw{0x0c, 0x78, 0x56, 0x34, 0x12});
    CHECK(integer(0x123456789a).size() == 9);
    CHECK(eisa_id("PNP0A08") == Raw{0x0c, 0x41, 0xd0, 0x0a, 0x08});
    CHECK(path("\\_SB.PCI0") == Raw{'\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0'});
    CHECK(path("A.B.C").size() == 2 + 12);
    CHECK(string("hi") == Raw{0x0d, 'h', 'i', 0});
    CHECK(buffer({7}) == Raw{0x11, 3, 1, 7});
    CHECK(notify("S01", 3) == Raw{0x86, 'S', '0', '1', '_', 0x0a, 3});
    CHECK(port_region("R", fixed_range<IoPort>(0x610, 0x61f)) ==
          Raw{0x5b, 0x80, 'R', '_', '_', '_', 1, 0x0b, 0x10, 0x06, 0x0a, 0x10});
    CHECK(dword_registers("R", {"A", "B"}) ==
          Raw{0x5b, 0x81, 16, 'R', '_', '_', '_', 0x43, 'A', '_', '_', '_', 0x20, 'B', '_', '_', '_', 0x20});
    CHECK(package({integer(1)}) == Raw{0x12, 3, 1, 1});
    // PkgLength: one byte up to 63, above that four bits and whole bytes.
    CHECK(buffer(Raw(60, 0))[1] == 63);
    const Raw long_buffer = buffer(Raw(61, 0));
    CHECK((long_buffer[1] == 0x41 && long_buffer[2] == 0x04));
    const Raw longer = buffer(Raw(4096, 0));
    CHECK((longer[1] >> 6) == 2);
    CHECK(static_cast<std::size_t>((longer[1] & 15) | longer[2] << 4 | longer[3] << 12) == longer.size() - 1);
}

// No test by itself: tests/unit/vmm/boot/acpi_iasl.sh runs it to make the tables that iasl then checks.
TEST_CASE("write the ACPI tables to files", "[.acpi_files]") {
    const char* folder = std::getenv("INOX_ACPI_FOLDER");
    if (!folder)
        return;
    const Tables tables{everything()};
    auto all = tables.all();
    all.push_back(tables.dsdt());
    all.push_back(tables.xsdt());
    for (const Bytes& table : all) {
        std::ofstream out{std::string{folder} + "/" + Tables::signature(table) + ".dat", std::ios::binary};
        out.write(reinterpret_cast<const char*>(table.data()), // NOLINT: bytes as text
                  static_cast<std::streamsize>(table.size()));
        REQUIRE(out.good());
    }
}

TEST_CASE("the host bridge's windows are those of the machine") {
    AcpiConfig config;
    config.bars_32 = fixed_range<Gpa>(0x80000000, 0xbfffffff);
    config.bars_64 = fixed_range<Gpa>(256 * GiB, 64 * 1024 * GiB - 1);
    const Bytes dsdt = Tables{config}.dsdt();
    CHECK(contains(dsdt, aml::memory32_window(config.bars_32)));
    CHECK(contains(dsdt, aml::memory64_window(*config.bars_64)));
    CHECK_FALSE(contains(dsdt, aml::memory32_window(layout::pci_bars_32)));
    config.bars_64.reset();
    CHECK_FALSE(contains(Tables{config}.dsdt(), aml::memory64_window(layout::pci_bars_64)));
}

} // namespace inox::boot_acpi_test
