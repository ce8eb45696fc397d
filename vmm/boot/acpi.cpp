// SPDX-License-Identifier: Apache-2.0
// Layouts: ACPI 6.5, 5.2.
#include "vmm/boot/acpi.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <string_view>

#include "vmm/boot/dsdt.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

using aml::Bytes;

template <std::size_t N> using Text = std::array<char, N>;

struct TableHeader {
    Text<4> signature;
    Le32 length{};
    std::uint8_t revision;
    std::uint8_t checksum{};
    Text<6> oem_id{'I', 'N', 'O', 'X', ' ', ' '};
    Text<8> oem_table_id{'I', 'N', 'O', 'X', 'V', 'M', ' ', ' '};
    Le32 oem_revision{1};
    Text<4> creator_id{'I', 'N', 'O', 'X'};
    Le32 creator_revision{1};
};
static_assert(sizeof(TableHeader) == 36 && offsetof(TableHeader, checksum) == 9);

struct Rsdp {
    Text<8> signature{'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
    std::uint8_t checksum{};
    Text<6> oem_id{'I', 'N', 'O', 'X', ' ', ' '};
    std::uint8_t revision{2};
    Le32 rsdt{};
    Le32 length{36};
    Le64 xsdt{};
    std::uint8_t extended_checksum{};
    std::array<std::uint8_t, 3> reserved{};
};
static_assert(sizeof(Rsdp) == 36 && offsetof(Rsdp, xsdt) == 24);
constexpr std::size_t rsdp_v1_size = 20;

/// Generic address structure, 5.2.3.2, of one byte in port space.
struct PortRegister {
    std::uint8_t space{1};
    std::uint8_t bit_width{8};
    std::uint8_t bit_offset{0};
    std::uint8_t access_size{1};
    Le64 address;
};
struct NoRegister {
    std::array<std::uint8_t, 12> zero{};
};
static_assert(sizeof(PortRegister) == 12);

constexpr std::uint64_t sleep_control_port = layout::port_acpi.start().raw();
constexpr std::uint64_t sleep_status_port = sleep_control_port + 1;
constexpr std::uint64_t reset_port = sleep_control_port + 2;

enum BootArchitecture : std::uint16_t { has_8042 = 1 << 1, no_vga = 1 << 2, no_cmos_rtc = 1 << 5 };
enum FadtFlags : std::uint32_t {
    wbinvd = 1 << 0,
    c1_supported = 1 << 2,
    no_fixed_power_button = 1 << 4,
    no_fixed_sleep_button = 1 << 5,
    reset_register_supported = 1 << 10,
    hardware_reduced = 1 << 20,
};

struct Fadt {
    TableHeader header{.signature = {'F', 'A', 'C', 'P'}, .revision = 6};
    Le32 firmware_control{};
    Le32 dsdt{};
    std::array<std::uint8_t, 52> fixed_hardware{}; ///< none: hardware-reduced
    Le16 level2_latency{0xfff};                    ///< above 100: no C2
    Le16 level3_latency{0xfff};                    ///< above 1000: no C3
    std::array<std::uint8_t, 9> fixed_hardware_rest{};
    Le16 boot_architecture{static_cast<std::uint16_t>(has_8042 | no_vga | no_cmos_rtc)};
    std::uint8_t reserved{};
    Le32 flags{static_cast<std::uint32_t>(wbinvd | c1_supported | no_fixed_power_button | no_fixed_sleep_button |
                                          reset_register_supported | hardware_reduced)};
    PortRegister reset{.address = reset_port};
    std::uint8_t reset_value{1};
    Le16 arm_boot_architecture{};
    std::uint8_t minor_revision{5};
    Le64 extended_firmware_control{};
    Le64 extended_dsdt{};
    std::array<NoRegister, 8> extended_fixed_hardware{};
    PortRegister sleep_control{.address = sleep_control_port};
    PortRegister sleep_status{.address = sleep_status_port};
    Text<8> hypervisor{'I', 'N', 'O', 'X', 0, 0, 0, 0};
};
static_assert(sizeof(Fadt) == 276);
static_assert(offsetof(Fadt, boot_architecture) == 109 && offsetof(Fadt, flags) == 112);
static_assert(offsetof(Fadt, reset) == 116 && offsetof(Fadt, extended_dsdt) == 140);
static_assert(offsetof(Fadt, level2_latency) == 96 && offsetof(Fadt, sleep_control) == 244);

struct MadtFixed {
    TableHeader header{.signature = {'A', 'P', 'I', 'C'}, .revision = 5};
    Le32 local_apic{static_cast<std::uint32_t>(layout::local_apic.start().raw())};
    Le32 flags{}; ///< no 8259s
};
struct MadtLocalApic {
    std::uint8_t type{0};
    std::uint8_t length{8};
    std::uint8_t uid;
    std::uint8_t apic_id;
    Le32 flags{1}; ///< enabled
};
struct MadtX2Apic {
    std::uint8_t type{9};
    std::uint8_t length{16};
    Le16 reserved{};
    Le32 apic_id;
    Le32 flags{1};
    Le32 uid;
};
struct MadtIoApic {
    std::uint8_t type{1};
    std::uint8_t length{12};
    std::uint8_t id{0};
    std::uint8_t reserved{};
    Le32 address{static_cast<std::uint32_t>(layout::io_apic.start().raw())};
    Le32 first_gsi{0};
};
static_assert(sizeof(MadtFixed) == 44 && sizeof(MadtLocalApic) == 8);
static_assert(sizeof(MadtX2Apic) == 16 && sizeof(MadtIoApic) == 12);
constexpr unsigned first_x2apic_only_id = 255;

struct Mcfg {
    TableHeader header{.signature = {'M', 'C', 'F', 'G'}, .revision = 1};
    std::array<std::uint8_t, 8> reserved{};
    Le64 base{layout::ecam.start().raw()};
    Le16 segment{0};
    std::uint8_t first_bus{0};
    std::uint8_t last_bus{static_cast<std::uint8_t>(layout::ecam.size() / MiB - 1)};
    Le32 reserved2{};
};
static_assert(sizeof(Mcfg) == 60);

/// Virtual I/O translation table (ACPI 6.5, 5.2.34).
struct Viot {
    TableHeader header{.signature = {'V', 'I', 'O', 'T'}, .revision = 0};
    Le16 node_count{};
    Le16 node_offset{48};
    std::array<std::uint8_t, 8> reserved{};
};
static_assert(sizeof(Viot) == 48);
struct ViotPciRange {
    std::uint8_t type{1};
    std::uint8_t reserved{};
    Le16 length{24};
    Le32 first_endpoint{}; ///< endpoint of `first`
    Le16 first_segment{0};
    Le16 last_segment{0};
    Le16 first{};
    Le16 last{};
    Le16 iommu_offset{48}; ///< of its node, from the start of the table
    std::array<std::uint8_t, 6> reserved2{};
};
struct ViotPciIommu {
    std::uint8_t type{3};
    std::uint8_t reserved{};
    Le16 length{16};
    Le16 segment{0};
    Le16 address{};
    std::array<std::uint8_t, 8> reserved2{};
};
static_assert(sizeof(ViotPciRange) == 24 && sizeof(ViotPciIommu) == 16);

template <GuestPod T> void append(Bytes& to, const T& value) {
    const auto from = std::as_bytes(std::span{&value, 1});
    for (const std::byte byte : from)
        to.push_back(std::to_integer<std::uint8_t>(byte));
}

std::uint8_t checksum(std::span<const std::uint8_t> bytes) {
    return static_cast<std::uint8_t>(0U - std::accumulate(bytes.begin(), bytes.end(), 0U));
}

/// Sets length and checksum of a table that starts with its header.
Bytes finished(Bytes table) {
    const Le32 length{static_cast<std::uint32_t>(table.size())};
    std::memcpy(table.data() + offsetof(TableHeader, length), &length, sizeof length);
    table[offsetof(TableHeader, checksum)] = 0;
    table[offsetof(TableHeader, checksum)] = checksum(table);
    return table;
}

Bytes make_dsdt(const AcpiConfig& config) {
    Bytes table;
    append(table, TableHeader{.signature = {'D', 'S', 'D', 'T'}, .revision = 2}); // 2: 64-bit integers
    return finished(aml::concat({table, dsdt_body(config)}));
}

Bytes make_fadt(Gpa dsdt) {
    Fadt fadt;
    fadt.dsdt = static_cast<std::uint32_t>(dsdt.raw());
    fadt.extended_dsdt = dsdt.raw();
    Bytes table;
    append(table, fadt);
    return finished(std::move(table));
}

Bytes make_madt(unsigned cpus) {
    Bytes table;
    append(table, MadtFixed{});
    for (unsigned cpu = 0; cpu < cpus; ++cpu) {
        if (cpu < first_x2apic_only_id)
            append(table,
                   MadtLocalApic{.uid = static_cast<std::uint8_t>(cpu), .apic_id = static_cast<std::uint8_t>(cpu)});
        else
            append(table, MadtX2Apic{.apic_id = cpu, .uid = cpu});
    }
    append(table, MadtIoApic{});
    return finished(std::move(table));
}

Bytes make_mcfg() {
    Bytes table;
    append(table, Mcfg{});
    return finished(std::move(table));
}

/// An endpoint's number is its bus address. All functions are behind the IOMMU, hot-plugged ones too. Exceptions are
/// the slot of the host bridge, which does no DMA, and the IOMMU itself.
Bytes make_viot(std::uint16_t iommu) {
    constexpr std::uint16_t first_endpoint = 8;
    std::vector<ViotPciRange> ranges;
    const auto add_range = [&](unsigned first, unsigned last) {
        if (first <= last)
            ranges.push_back({.first_endpoint = first,
                              .first = static_cast<std::uint16_t>(first),
                              .last = static_cast<std::uint16_t>(last)});
    };
    add_range(first_endpoint, iommu - 1U);
    add_range(std::max<unsigned>(first_endpoint, iommu + 1U), 0xffff);
    Bytes table;
    append(table, Viot{.node_count = static_cast<std::uint16_t>(ranges.size() + 1)});
    append(table, ViotPciIommu{.address = iommu});
    for (const auto& range : ranges)
        append(table, range);
    return finished(std::move(table));
}

Bytes make_xsdt(std::span<const Gpa> tables) {
    Bytes table;
    append(table, TableHeader{.signature = {'X', 'S', 'D', 'T'}, .revision = 1});
    for (const Gpa address : tables)
        append(table, Le64{address.raw()});
    return finished(std::move(table));
}

Rsdp make_rsdp(Gpa xsdt) {
    Rsdp rsdp;
    rsdp.xsdt = xsdt.raw();
    Bytes bytes;
    append(bytes, rsdp);
    rsdp.checksum = checksum(std::span{bytes}.first(rsdp_v1_size));
    bytes.clear();
    append(bytes, rsdp);
    rsdp.extended_checksum = checksum(bytes);
    return rsdp;
}

/// Places tables one after another behind the RSDP.
class Writer {
public:
    explicit Writer(const GuestMemory& memory) : memory_{memory} {}

    Result<Gpa> add(const Bytes& table) {
        constexpr std::uint64_t alignment = 16;
        const auto range = Range<Gpa>::sized(next_, table.size());
        if (!range || !layout::acpi_tables.contains(*range) || !memory_.write(next_, std::as_bytes(std::span{table})))
            return fail(Errc::no_resource, "the ACPI tables are larger than their place",
                        "give the guest fewer devices");
        next_ = Gpa{align_up(range->last().raw() + 1, alignment)};
        return range->start();
    }

private:
    const GuestMemory& memory_;
    Gpa next_{layout::acpi_tables.start() + align_up(sizeof(Rsdp), 16)};
};

} // namespace

Result<Gpa> write_acpi_tables(const AcpiConfig& config, const GuestMemory& memory) {
    Writer writer{memory};
    const Gpa dsdt = TRY(writer.add(make_dsdt(config)));
    std::vector<Gpa> tables;
    tables.push_back(TRY(writer.add(make_fadt(dsdt))));
    tables.push_back(TRY(writer.add(make_madt(config.cpus))));
    if (config.pci)
        tables.push_back(TRY(writer.add(make_mcfg())));
    if (config.iommu)
        tables.push_back(TRY(writer.add(make_viot(*config.iommu))));
    const Gpa xsdt = TRY(writer.add(make_xsdt(tables)));
    if (!memory.write(layout::acpi_tables.start(), make_rsdp(xsdt)))
        return fail(Errc::internal, "the ACPI root pointer does not fit guest memory");
    return layout::acpi_tables.start();
}

} // namespace inox::boot
