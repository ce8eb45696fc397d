// SPDX-License-Identifier: Apache-2.0
// What the operator asked for, typed. Values are checked by parsing and by check(); nothing here touches the host.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/boot/cpuid.hpp"
#include "vmm/boot/smbios.hpp"
#include "vmm/config/kinds.hpp"
#include "vmm/memory/address_map.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

/// How the guest finds its virtio devices.
enum class Transport : std::uint8_t {
    pci,  ///< on the PCI root bus
    mmio, ///< ACPI and virtio_mmio.device= on the command line; the machine then has no PCI
};

/// What becomes of a guest that says it panicked: reported only, or ended too.
inline constexpr std::array<std::string_view, 2> panic_words{"report", "end"};

struct MachineConfig {
    unsigned cpus{1};                      ///< 1..most_cpus
    unsigned most_cpus{32};                ///< Firecracker's; see initial_config()
    std::uint64_t memory{128 * MiB};       ///< bytes
    HugePages huge_pages{HugePages::none}; ///< Firecracker's default; see initial_config()
    bool smt{false};                       ///< two threads per core
    bool track_dirty_pages{false};         ///< from the start on, for small Diff snapshots
    Transport transport{Transport::pci};
    bool end_on_panic{false};                 ///< whatever its kernel would do next
    bool panic_text{true};                    ///< a panic that a console shows counts, too
    std::vector<boot::CpuidModifier> cpuid{}; ///< over what a guest sees otherwise, in this order
    PciWindows windows{};                     ///< for BARs of PCI devices
};

struct BootConfig {
    std::string kernel{};   ///< path; empty boots the built-in hello guest
    std::string initrd{};   ///< path; empty for none
    std::string cmdline{};  ///< what the kernel gets, complete
    bool own_cmdline{true}; ///< the operator's; false: a default
};

/// PASIDs for the guest; an accelerator brings them too.
struct PasidConfig {
    std::uint32_t quota{1024}; ///< at most so many at a time
};

/// The guest's files, which inox's own initial RAM disk mounts.
struct RootConfig {
    /// The id of its disk, and the tag of its folder.
    static constexpr std::string_view name = "inox-root";
    std::string path{};    ///< a folder, an image, a block device or a tar archive
    bool writable{false};  ///< what the guest writes stays; else it is kept in its memory
    std::string modules{}; ///< folder with the kernel's modules; empty: where a kernel's usually are
};

/// What runs in the root.
struct CommandConfig {
    static constexpr std::size_t most_bytes = 2 * MiB; ///< Linux takes about so much for arguments and environment
    std::vector<std::string> arguments{};              ///< the first one is the program; none: a shell
    std::vector<std::string> environment{};            ///< "NAME=VALUE"; "NAME": as here
    std::string directory{};                           ///< in the root; empty: see docs/config.md
};

struct Config {
    MachineConfig machine{};
    BootConfig boot{};
    std::optional<RootConfig> root{};
    std::optional<CommandConfig> command{};
    std::vector<DeviceConfig> devices{}; ///< in the order in which they were given
    std::optional<PasidConfig> pasid{};
    boot::SmbiosSystem smbios{}; ///< what the guest finds as its hardware's name
};

/// The devices of one kind, in the order in which they were given.
template <class Options> std::vector<const Options*> devices_of(const Config& config) {
    std::vector<const Options*> found;
    for (const auto& device : config.devices)
        if (const auto* one = std::get_if<Options>(&device))
            found.push_back(one);
    return found;
}
/// The first of them; null: there is none.
template <class Options> const Options* device_of(const Config& config) {
    for (const auto& device : config.devices)
        if (const auto* one = std::get_if<Options>(&device))
            return one;
    return nullptr;
}
template <class Options> Options* device_of(Config& config) {
    return const_cast<Options*>(device_of<Options>(std::as_const(config)));
}
/// In place of the device with its name, or with its kind where a machine has one; else at the end.
void put_device(Config& config, DeviceConfig device);
/// Nothing happens when there is none.
void remove_device(Config& config, const DeviceName& name);
/// The device with this name; null: there is none.
DeviceConfig* find_device(Config& config, const DeviceName& name);
template <class Options> Options* find_device(Config& config, const std::string& id) {
    return std::get_if<Options>(find_device(config, DeviceName{kind_of<Options>, id}));
}

/// A device with the JSON pointer of what it takes from the host.
struct PlacedDevice {
    const DeviceConfig* config; ///< never null
    std::string where;
};
/// All of them, in the order in which the guest finds them. `config` must outlive what is returned.
std::vector<PlacedDevice> placed_devices(const Config& config);
/// How many devices the array `section` ("drives") has; 0 for other sections.
std::size_t section_size(const Config& config, std::string_view section);
/// The paths of the host that devices name, with their JSON pointers.
struct PlacedPath {
    UsedPath path;
    std::string where;
};
std::vector<PlacedPath> used_paths(const Config& config);

/// The command line of a kernel for which the operator named none.
void use_default_cmdline(BootConfig& boot, std::string_view cmdline);

/// What a kernel must be told of this machine and its root device, unless its command line tells it already: words with
/// blanks between them.
std::string machine_cmdline(const Config& config);

/// Whether devices in no domain reach guest memory when the guest starts; with an IOMMU.
bool boot_bypass(const Config& config);
/// Whether the guest can allocate PASIDs.
bool has_pasids(const Config& config);

/// Virtio devices that fit a machine without PCI: one interrupt each.
inline constexpr std::size_t max_mmio_devices = 17;
/// Virtio devices this machine starts with, without the IOMMU.
std::size_t virtio_device_count(const Config& config);

/// Command line of a kernel started without one. No reboot= on purpose: Linux then tries the ACPI reset register and
/// after it the keyboard controller, and inox has both.
inline constexpr std::string_view default_cmdline = "console=ttyS0 panic=-1 i8042.noaux i8042.nomux i8042.dumbkbd";
/// The same for a machine started with Firecracker's flags: Firecracker's own default.
inline constexpr std::string_view firecracker_cmdline =
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce";

/// Every rule that needs no host: each broken one is an Error with the JSON pointer of its value in `where`.
std::vector<Error> check(const Config& config);

Error used_twice(const std::string& id, const char* where);
/// For the check() of a kind: what `id` says of its devices must differ; the second one is at fault.
template <class Options, class Id>
void check_unique(const std::vector<const Options*>& devices, const char* where, Id id, std::vector<Error>& problems) {
    for (auto one = devices.begin(); one != devices.end(); ++one)
        if (std::any_of(devices.begin(), one, [&](const auto* other) { return id(*other) == id(**one); }))
            problems.push_back(used_twice(id(**one), where));
}

// The single rules, for those who hold one value; nullopt when it is good.
std::optional<Error> check_cpus(std::uint64_t cpus, unsigned most, bool smt);
std::optional<Error> check_memory(std::uint64_t bytes, HugePages huge_pages);
std::optional<Error> check_cmdline(std::string_view cmdline);
std::optional<Error> check_windows(const PciWindows& windows);
void check_root(const Config& config, std::vector<Error>& problems);

} // namespace inox
