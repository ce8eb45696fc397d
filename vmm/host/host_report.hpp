// SPDX-License-Identifier: Apache-2.0
// What this host can do for a guest, and what to do about what it cannot. Looking changes nothing on the host.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "devices/vfio/sysfs.hpp"

namespace inox {

struct KvmCapability {
    const char* name;
    const char* purpose;
    bool required; ///< no guest starts without it
    int value;     ///< 0: absent
};

struct KvmReport {
    bool present{}; ///< /dev/kvm exists
    bool usable{};  ///< it opens, is of the right version and has all that is required
    int api_version{};
    int recommended_cpus{};
    int max_cpus{};
    std::vector<KvmCapability> capabilities{};
    std::optional<double> million_instructions_per_second{}; ///< of guest code; measured
    bool interpreting{};                                     ///< KVM emulates guest code instead of running it
    std::string problem{};                                   ///< why it is not usable
    std::string todo{};
};

/// A device of an IOMMU group, and what keeps it from being assigned now.
struct HostPciDevice {
    devices::vfio::SysfsDevice sysfs{};
    std::vector<Error> problems{};
};

struct ReservedRange {
    std::string first{}; ///< hexadecimal, as the kernel prints it
    std::string last{};
    std::string type{}; ///< direct, reserved, msi, ...
};

struct IommuGroup {
    unsigned number{};
    std::vector<HostPciDevice> devices{};
    std::vector<ReservedRange> reserved{};
    /// Devices whose driver must go before any of the group can be assigned.
    [[nodiscard]] std::vector<const devices::vfio::SysfsFunction*> in_the_way() const;
};

struct IommuUnit {
    std::string name{}; ///< "dmar0"
    std::string kind{}; ///< "intel", "amd", "virtio" or "other"
    unsigned pasid_bits{};
    bool nesting{}; ///< walks a guest's x86-64 page tables on top of the host's
};

struct IommuReport {
    bool container{};        ///< /dev/vfio/vfio exists
    bool container_opens{};  ///< and this process may use it
    bool vfio_pci{};         ///< the vfio-pci driver is there
    bool iommufd{};          ///< /dev/iommu exists
    unsigned device_files{}; ///< devices offered under /dev/vfio/devices
    std::vector<IommuUnit> units{};
    std::vector<IommuGroup> groups{};
};

struct EnqcmdReport {
    bool enqcmd{}; ///< CPUID bits
    bool movdir64b{};
    bool movdiri{};
    unsigned work_queues{}; ///< device files under /dev/dsa
};

struct HugePageReport {
    std::uint64_t size_kib{};
    std::uint64_t total{};
    std::uint64_t free{};
};

struct MemoryReport {
    std::uint64_t total{};     ///< bytes
    std::uint64_t available{}; ///< bytes
    std::vector<HugePageReport> huge_pages{};
    std::string transparent{};                   ///< policy for private memory: "madvise", "never", ...
    std::string transparent_shared{};            ///< for shared memory: "advise", "never", ...
    std::optional<std::uint64_t> locked_limit{}; ///< bytes this process may lock; nullopt: no limit
};

struct NetworkReport {
    bool tun{}; ///< /dev/net/tun exists
    bool tun_opens{};
    bool net_admin{}; ///< CAP_NET_ADMIN: may create interfaces
};

struct HostReport {
    std::string kernel{}; ///< release
    unsigned cpus{};      ///< online
    KvmReport kvm{};
    IommuReport iommu{};
    EnqcmdReport enqcmd{};
    MemoryReport memory{};
    NetworkReport network{};
};

/// `root` is put before every path; tests give a made-up tree.
HostReport inspect_host(const std::string& root = {});

// The parts of inspect_host().
KvmReport inspect_kvm(const std::string& root);
IommuReport inspect_iommu(const std::string& root);
MemoryReport inspect_memory(const std::string& root);

/// One line of the human report.
struct HostFinding {
    enum class State : std::uint8_t { yes, limited, no };
    const char* section;
    const char* subject;
    State state;
    std::string text;
    std::string todo{}; ///< what to do about it; may be empty
};
const char* host_state_name(HostFinding::State state);
std::vector<HostFinding> host_findings(const HostReport& report);

/// A table for a terminal.
std::string host_text(const HostReport& report);
/// One JSON object; its keys are stable.
std::string host_json(const HostReport& report);

} // namespace inox
