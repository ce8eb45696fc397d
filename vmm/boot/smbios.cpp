// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/smbios.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "vmm/base/bytes.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::boot {
namespace {

/// One structure (DSP0134, 6.1): a header, fields, and behind them the strings that fields number from 1.
class Structure {
public:
    Structure(std::uint8_t type, std::uint16_t handle) {
        byte(type);
        byte(0); // length, see finish()
        word(handle);
    }
    Structure& byte(std::uint8_t value) {
        bytes_.push_back(static_cast<std::byte>(value));
        return *this;
    }
    Structure& word(std::uint16_t value) { return number(value, 2); }
    Structure& dword(std::uint32_t value) { return number(value, 4); }
    Structure& qword(std::uint64_t value) { return number(value, 8); }
    Structure& text(std::string_view value) {
        if (value.empty())
            return byte(0);
        strings_.append(value).push_back('\0');
        return byte(++count_);
    }
    /// The first three fields are little-endian (7.2.1).
    Structure& uuid(const std::optional<Uuid>& value) {
        static constexpr std::array<std::size_t, 16> order{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
        for (const auto at : order)
            byte(value ? (*value)[at] : 0); // all zeros: there is none
        return *this;
    }
    void finish(std::vector<std::byte>& tables) {
        bytes_[1] = static_cast<std::byte>(bytes_.size());
        std::ranges::copy(bytes_, std::back_inserter(tables));
        strings_.push_back('\0');
        if (count_ == 0)
            strings_.push_back('\0');
        std::ranges::copy(std::as_bytes(std::span{strings_}), std::back_inserter(tables));
    }

private:
    Structure& number(std::uint64_t value, int size) {
        for (int i = 0; i < size; ++i)
            byte(static_cast<std::uint8_t>(value >> (8 * i)));
        return *this;
    }

    std::vector<std::byte> bytes_{};
    std::string strings_{};
    std::uint8_t count_{0};
};

struct EntryPoint {
    std::array<char, 5> anchor{'_', 'S', 'M', '3', '_'};
    std::uint8_t checksum{};
    std::uint8_t length{sizeof(EntryPoint)};
    std::uint8_t major{3};
    std::uint8_t minor{4};
    std::uint8_t document{0};
    std::uint8_t revision{1};
    std::uint8_t reserved{};
    Le32 size{};
    Le64 address{};
};
static_assert(sizeof(EntryPoint) == 24 && offsetof(EntryPoint, size) == 12 && offsetof(EntryPoint, address) == 16);

constexpr Gpa tables_start = layout::smbios.start() + align_up(sizeof(EntryPoint), 16);

constexpr std::string_view vendor = "inox";
constexpr std::string_view firmware_date = "01/01/2026"; // Linux distrusts the tables of old machines
constexpr std::uint16_t chassis_handle = 0x300;
constexpr std::uint8_t unknown = 2;
constexpr std::uint8_t safe = 3;

/// Type 0, platform firmware: that this is a virtual machine.
void add_firmware(std::vector<std::byte>& tables) {
    constexpr std::uint64_t characteristics_unknown = 1 << 3;
    constexpr std::uint8_t virtual_machine = 1 << 4; // 7.1.2.2
    Structure{0, 0}
        .text(vendor)
        .text(INOX_VERSION)
        .word(0) // no segment
        .text(firmware_date)
        .byte(0) // 64 KiB of ROM
        .qword(characteristics_unknown)
        .byte(0)
        .byte(virtual_machine)
        .byte(0xff) // no release numbers of firmware and embedded controller
        .byte(0xff)
        .byte(0xff)
        .byte(0xff)
        .word(0)
        .finish(tables);
}

/// Type 1, the system.
void add_system(const SmbiosSystem& system, std::vector<std::byte>& tables) {
    constexpr std::uint8_t power_switch = 6;
    Structure{1, 0x100}
        .text(system.manufacturer)
        .text(system.product)
        .text(system.version)
        .text(system.serial)
        .uuid(system.uuid)
        .byte(power_switch)
        .text(system.sku)
        .text(system.family)
        .finish(tables);
}

/// Type 3, the chassis, of which there is none to describe.
void add_chassis(const SmbiosSystem& system, std::vector<std::byte>& tables) {
    constexpr std::uint8_t other = 1;
    Structure{3, chassis_handle}
        .text(system.manufacturer)
        .byte(other)
        .text(system.version)
        .text(system.serial)
        .text("")
        .byte(safe)
        .byte(safe)
        .byte(safe)
        .byte(unknown)
        .dword(0)
        .byte(0)
        .byte(0)
        .byte(0)
        .byte(0)
        .text(system.sku)
        .finish(tables);
}

/// Type 32, boot information, and type 127, the end.
void add_end(std::vector<std::byte>& tables) {
    Structure{32, 0x2000}.dword(0).word(0).byte(0).finish(tables);
    Structure{127, 0x7f00}.finish(tables);
}

} // namespace

std::optional<Uuid> parse_uuid(std::string_view text) {
    constexpr std::string_view shape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    if (text.size() != shape.size())
        return std::nullopt;
    Uuid uuid{};
    std::size_t digits = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) {
        const char c = text[i];
        const int value = c >= '0' && c <= '9'                     ? c - '0'
                          : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                   : -1;
        if (shape[i] == '-' ? c != '-' : value < 0)
            return std::nullopt;
        if (shape[i] == '-')
            continue;
        uuid[digits / 2] = static_cast<std::uint8_t>(uuid[digits / 2] << 4 | value);
        ++digits;
    }
    return uuid;
}

Result<void> write_smbios(const SmbiosSystem& system, const GuestMemory& memory) {
    std::vector<std::byte> tables;
    add_firmware(tables);
    add_system(system, tables);
    add_chassis(system, tables);
    add_end(tables);
    EntryPoint entry;
    entry.size = static_cast<std::uint32_t>(tables.size());
    entry.address = tables_start.raw();
    const auto bytes = std::bit_cast<std::array<std::uint8_t, sizeof entry>>(entry);
    entry.checksum = static_cast<std::uint8_t>(-std::accumulate(bytes.begin(), bytes.end(), 0));
    const auto range = Range<Gpa>::sized(tables_start, tables.size());
    if (!range || !layout::smbios.contains(*range) || !memory.write(tables_start, tables) ||
        !memory.write(layout::smbios.start(), entry))
        return fail(Errc::internal, "the SMBIOS tables do not fit guest memory");
    return {};
}

} // namespace inox::boot
