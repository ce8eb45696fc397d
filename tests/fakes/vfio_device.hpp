// SPDX-License-Identifier: Apache-2.0
// A PCI device behind a made-up VFIO: regions kept in a memfd, interrupts that tests trigger.
#pragma once

#include <linux/vfio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "devices/vfio/device.hpp"
#include "vmm/base/os.hpp"

namespace inox::fakes {

/// What vfio-pci answers of configuration space without the device: vendor and device id, BARs, ROM, interrupt pin.
constexpr bool kept_by_vfio(std::uint64_t offset) {
    return offset < 4 || (offset >= 0x10 && offset < 0x28) || (offset >= 0x30 && offset < 0x35) ||
           (offset >= 0x3c && offset < 0x3e);
}

class VfioDevice {
public:
    struct Region {
        std::uint64_t size{};
        std::uint32_t flags{};
        bool msix_mappable{};
        std::vector<devices::vfio::RegionArea> sparse{};
    };
    struct Vectors {
        std::uint32_t count{};
        std::uint32_t flags{VFIO_IRQ_INFO_EVENTFD};
        std::map<unsigned, UniqueFd> events{}; ///< -1 inside: enabled, signals nothing
        std::size_t enabled{};
    };

    VfioDevice(std::string device_address, unsigned group_number);

    static constexpr std::uint64_t region_stride = 1 << 24;
    std::string address;
    unsigned group;
    UniqueFd memory;
    std::array<Region, 9> regions{};
    std::array<Vectors, 5> vectors{};
    std::uint32_t flags{VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET};
    std::string token{};            ///< wanted of who opens it; empty: none
    std::vector<std::string> bus{}; ///< what a bus reset reaches; empty: there is no such reset
    bool gone{};                    ///< pulled out
    bool io_error{};                ///< its regions cannot be read or written
    bool open{};
    bool masked{};
    UniqueFd unmask_event{};
    unsigned resets{};
    unsigned hot_resets{};
    std::size_t last_width{};

    /// What the hardware does.
    void interrupt(unsigned index, unsigned vector);
    /// The first who has it open, and the last: the host resets it then, if it can.
    void opened();
    void closed();

    int info(vfio_device_info& out) const;

    int region_info(std::span<std::byte> buffer) const;

    int irq_info(vfio_irq_info& out) const;

    int set_irqs(std::span<const std::byte> buffer);

private:
    static UniqueFd copy_of(int fd) { return UniqueFd{fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, 0)}; }
    int wire(const vfio_irq_set& set, Vectors& kind, const std::vector<int>& fds);
    int mask(bool on, const std::vector<int>& fds);
    static std::vector<std::byte> capabilities(const Region& region);
};

} // namespace inox::fakes
