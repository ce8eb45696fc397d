// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/sysfs.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>

#include "vmm/base/bytes.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::vfio {
namespace {

namespace host = host;

constexpr std::uint64_t resource_io = 0x100; // flags of /sys/bus/pci/devices/*/resource
constexpr std::uint64_t resource_prefetch = 0x2000;
constexpr std::uint64_t resource_wide = 0x100000;

std::string_view take_word(std::string_view& line) {
    const auto start = std::min(line.find_first_not_of(" \t"), line.size());
    const auto end = std::min(line.find_first_of(" \t", start), line.size());
    const auto word = line.substr(start, end - start);
    line.remove_prefix(end);
    return word;
}

std::optional<Iova> take_address(std::string_view& line) {
    auto word = take_word(line);
    if (word.starts_with("0x"))
        word.remove_prefix(2);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
    if (word.empty() || error != std::errc{} || end != word.data() + word.size())
        return std::nullopt;
    return Iova{value};
}

std::vector<SysfsBar> read_bars(const std::string& directory) {
    const auto words = host::words(host::read_text(directory + "/resource")); // first, last, flags a line
    std::vector<SysfsBar> bars;
    for (unsigned index = 0; index <= SysfsBar::rom && (index + 1) * 3 <= words.size(); ++index) {
        const auto number = [&](unsigned column) {
            return std::strtoull(words[std::size_t{index} * 3 + column].c_str(), nullptr, 16);
        };
        const auto first = number(0);
        const auto last = number(1);
        const auto flags = number(2);
        if (last > first)
            bars.push_back({index, last - first + 1, (flags & resource_io) != 0, (flags & resource_wide) != 0,
                            (flags & resource_prefetch) != 0});
    }
    return bars;
}

/// As much of configuration space as this user may read: all of it, or 64 bytes.
std::vector<std::byte> read_config(const std::string& directory) {
    std::vector<std::byte> bytes(256);
    const auto file = open_file(directory + "/config", O_RDONLY, Errc::not_found);
    const auto got = file ? ::pread(file->get(), bytes.data(), bytes.size(), 0) : 0;
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
}

void read_vectors(const std::string& directory, SysfsDevice& out) {
    constexpr std::size_t status = 0x06;
    constexpr std::size_t first_capability = 0x34;
    constexpr unsigned id_msi = 0x05;
    constexpr unsigned id_msix = 0x11;
    const auto config = read_config(directory);
    const auto word = [&](std::size_t at) {
        return at + 2 <= config.size() ? load_le<std::uint16_t>(std::span{config}.subspan(at, 2)) : 0U;
    };
    if ((word(status) & 0x10) == 0)
        return;
    std::size_t at = word(first_capability) & 0xfc;
    for (int steps = 0; at >= 0x40 && steps < 48; ++steps) { // no more capabilities fit
        const unsigned header = word(at);
        if ((header & 0xff) == id_msi)
            out.msi_vectors = 1U << (word(at + 2) >> 1 & 7);
        else if ((header & 0xff) == id_msix)
            out.msix_vectors = (word(at + 2) & 0x7ff) + 1;
        at = header >> 8 & 0xfc;
    }
}

/// The width of VT-d's addresses: CAP.MGAW, bits 21:16, is one less. AMD's driver does not report its width.
unsigned read_address_bits(const std::string& unit_directory) {
    const auto capability = host::read_number(unit_directory + "/intel-iommu/cap", 16);
    return capability == 0 ? 0 : static_cast<unsigned>(capability >> 16 & 0x3f) + 1;
}

void read_group(const std::string& root, SysfsDevice& out) {
    const auto directory = root + "/sys/kernel/iommu_groups/" + std::to_string(*out.group);
    for (const auto& member : host::list(directory + "/devices"))
        out.members.push_back(read_sysfs_function(root, directory + "/devices/" + member, member));
    out.reserved = parse_reserved(host::read_text(directory + "/reserved_regions", 64 * 1024));
    out.no_iommu = host::read_text(directory + "/name") == "vfio-noiommu" ||
                   host::exists(root + "/dev/vfio/noiommu-" + std::to_string(*out.group));
}

/// Since Linux 6.1 a VFIO device is a child of the bus's device, whatever driver made it. Before, the driver's name is
/// all that shows without opening the group.
bool offered_by_vfio(const std::string& root, const std::string& directory, const std::string& driver) {
    if (!host::list(directory + "/vfio-dev").empty())
        return true;
    return !host::exists(root + "/sys/class/vfio-dev") && driver.find("vfio") != std::string::npos;
}

} // namespace

std::vector<ReservedLine> parse_reserved(std::string_view text) {
    std::vector<ReservedLine> out;
    while (!text.empty()) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        const auto first = take_address(line);
        const auto last = take_address(line);
        if (!first || !last)
            continue;
        const auto range = Range<Iova>::closed(*first, *last);
        const auto type = take_word(line);
        if (!range)
            continue;
        const bool relaxable = type == "direct-relaxable";
        out.push_back({*range,
                       type == "msi"                   ? iommu::ReservedKind::msi
                       : type == "direct" || relaxable ? iommu::ReservedKind::direct
                                                       : iommu::ReservedKind::reserved,
                       relaxable});
    }
    return out;
}

bool blocks_group(const SysfsFunction& function) {
    constexpr std::uint32_t bridge_class = 0x06;
    return !function.driver.empty() && !function.offered && function.driver != "pci-stub" &&
           function.class_code >> 16 != bridge_class;
}

SysfsFunction read_sysfs_function(const std::string& root, const std::string& directory, std::string address) {
    const auto hex = [&](const char* name) {
        const auto text = host::read_text(directory + "/" + name);
        return text.starts_with("0x") ? text.substr(2) : text;
    };
    SysfsFunction function;
    function.address = std::move(address);
    if (host::exists(directory + "/vendor"))
        function.id = hex("vendor") + ":" + hex("device");
    function.class_code = static_cast<std::uint32_t>(host::read_number(directory + "/class", 16));
    function.driver = host::link_name(directory + "/driver");
    function.offered = !function.driver.empty() && offered_by_vfio(root, directory, function.driver);
    return function;
}

SysfsDevice read_sysfs_device(const std::string& root, const PciAddress& address) {
    const auto directory = root + "/sys/bus/pci/devices/" + address.text();
    SysfsDevice out;
    out.exists = host::exists(directory);
    out.function = read_sysfs_function(root, directory, address.text());
    if (const auto group = host::link_name(directory + "/iommu_group"); !group.empty())
        out.group = static_cast<unsigned>(std::strtoul(group.c_str(), nullptr, 10));
    if (out.group)
        read_group(root, out);
    out.resets = host::words(host::read_text(directory + "/reset_method"));
    out.bars = read_bars(directory);
    read_vectors(directory, out);
    out.iommu = host::link_name(directory + "/iommu");
    if (!out.iommu.empty())
        out.address_bits = read_address_bits(root + "/sys/class/iommu/" + out.iommu);
    if (const auto names = host::list(directory + "/vfio-dev"); !names.empty())
        out.device_file = "/dev/vfio/devices/" + names.front();
    return out;
}

std::string bus_reset_obstacle(const std::string& root, const PciAddress& address,
                               std::span<const PciAddress> reached) {
    std::string others;
    for (const auto& one : reached) {
        const auto text = one.text();
        const auto function = read_sysfs_function(root, root + "/sys/bus/pci/devices/" + text, text);
        if (one != address && !function.offered)
            others += (others.empty() ? "" : ", ") + text +
                      (function.driver.empty() ? " (no driver)" : " (driver " + function.driver + ")");
    }
    if (!others.empty())
        return "its bus is shared with " + others + ", not bound to vfio-pci";
    std::error_code error;
    const auto home = std::filesystem::canonical(root + "/sys/bus/pci/devices/" + address.text(), error);
    if (!error && home.parent_path().filename().string().starts_with("pci"))
        return "it is on the host's root bus, which cannot be reset";
    return "the bridge above its bus offers no reset";
}

std::string bind_commands(const SysfsFunction& function) {
    const auto directory = "/sys/bus/pci/devices/" + function.address;
    const std::string unbind = function.driver.empty() ? "" : directory + "/driver/unbind ";
    return "echo vfio-pci | sudo tee " + directory + "/driver_override; echo " + function.address + " | sudo tee " +
           unbind + "/sys/bus/pci/drivers_probe";
}

} // namespace inox::devices::vfio
