// SPDX-License-Identifier: Apache-2.0
// What the operator asked for, typed. Values are checked by parsing and by check(); nothing here touches the host.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "devices/dsa/shape.hpp"
#include "devices/vfio/options.hpp"
#include "devices/virtio/balloon_options.hpp"
#include "devices/virtio/block/options.hpp"
#include "devices/virtio/entropy_options.hpp"
#include "devices/virtio/fs_options.hpp"
#include "devices/virtio/net/options.hpp"
#include "devices/virtio/vsock/options.hpp"
#include "iommu/limits.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/boot/cpuid.hpp"
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

struct DriveConfig {
    devices::virtio::BlockOptions block{};
    bool root{false};       ///< the kernel is told to boot from it, unless its command line names a root already
    std::string partuuid{}; ///< of the root partition; empty: the whole disk
};

/// A virtio-console beside the serial port: hvc0 in Linux.
struct ConsoleConfig {
    std::string path{}; ///< gets the guest's output, appended; empty: the terminal is on it, instead of the serial port
};

/// A PCI device of the host that the guest gets.
struct VfioConfig {
    devices::vfio::OpenOptions open{};
    bool rom{true};                     ///< the guest sees its expansion ROM
    bool relocate_msix{false};          ///< the MSI-X table gets a BAR of its own
    std::optional<unsigned> msix_bar{}; ///< which; nullopt: the first that is free
};

/// A virtio-iommu with every other PCI device behind it.
struct IommuConfig {
    /// Devices that the guest has put into no domain reach its memory. Unset: they do, unless devices are assigned.
    std::optional<bool> bypass{};
    iommu::Limits limits{};
};

/// A virtual data-streaming accelerator, and with it PASIDs and ENQCMD.
struct DsaConfig {
    std::string id{"dsa0"}; ///< a machine has one
    devices::dsa::Shape shape{};
    std::string forward{}; ///< device file of a host work queue that does the copies; empty: the CPU
};

/// PASIDs for the guest; an accelerator brings them too.
struct PasidConfig {
    std::uint32_t quota{1024}; ///< at most so many at a time
};

struct Config {
    MachineConfig machine{};
    BootConfig boot{};
    std::vector<DriveConfig> drives{}; ///< at most one of them root
    std::vector<devices::virtio::NetOptions> nets{};
    std::vector<devices::virtio::FsOptions> shares{};
    std::optional<devices::virtio::VsockOptions> vsock{};
    std::optional<devices::virtio::EntropyOptions> entropy{};
    std::optional<devices::virtio::BalloonOptions> balloon{};
    std::optional<ConsoleConfig> console{};
    std::vector<VfioConfig> vfio{};
    std::optional<IommuConfig> iommu{};
    std::optional<DsaConfig> dsa{};
    std::optional<PasidConfig> pasid{};
};

/// One device of a configuration; also what can be added to a running machine.
using DeviceConfig = std::variant<DriveConfig, devices::virtio::NetOptions, devices::virtio::VsockOptions,
                                  devices::virtio::EntropyOptions, devices::virtio::BalloonOptions, ConsoleConfig,
                                  devices::virtio::FsOptions, VfioConfig, DsaConfig>;
/// All of them, in the order the guest finds them: the root disk first, so that it is Linux's vda.
std::vector<DeviceConfig> device_configs(const Config& config);
/// The same, each with the JSON pointer of what it takes from the host.
struct PlacedDevice {
    DeviceConfig config;
    std::string where;
};
std::vector<PlacedDevice> placed_devices(const Config& config);

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

// The single rules, for those who hold one value; nullopt when it is good.
std::optional<Error> check_cpus(std::uint64_t cpus, unsigned most, bool smt);
std::optional<Error> check_memory(std::uint64_t bytes, HugePages huge_pages);
std::optional<Error> check_cmdline(std::string_view cmdline);
std::optional<Error> check_windows(const PciWindows& windows);

} // namespace inox
