// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/vfio_preflight.hpp"

#include <algorithm>
#include <set>

#include "devices/vfio/sysfs.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace vmm {
namespace {

using devices::vfio::Backend;
using devices::vfio::SysfsDevice;

/// Interrupt routes that KVM has for a guest's MSI and MSI-X vectors.
constexpr unsigned msi_routes = 4096 - layout::io_apic_pins;

class VfioPreflight {
public:
    VfioPreflight(const Config& config, const std::string& root, devices::vfio::LockLimit limit)
        : config_{config}, root_{root}, limit_{limit}, one_to_one_{!config.iommu || boot_bypass(config)} {}

    std::vector<Error> run() {
        ram_.push_back({0, std::min(config_.machine.memory, layout::hole.start().raw()) - 1});
        if (config_.machine.memory > layout::hole.start().raw())
            ram_.push_back({layout::ram_above_hole.raw(),
                            layout::ram_above_hole.raw() + config_.machine.memory - layout::hole.start().raw() - 1});
        for (std::size_t i = 0; i < config_.vfio.size(); ++i)
            check_device("/vfio/" + std::to_string(i), config_.vfio[i]);
        if (one_to_one_)
            check_locked_memory();
        check_room();
        return std::move(problems_);
    }

private:
    struct Piece {
        std::uint64_t first;
        std::uint64_t last;
    };
    void add(const std::string& where, Errc code, std::string what, std::string hint) {
        problems_.push_back({code, std::move(what), std::move(hint), where, 0});
    }

    void check_device(const std::string& where, const VfioConfig& wanted) {
        const auto address = devices::vfio::check_options(wanted.open);
        if (!address)
            return; // told when the configuration was read
        const auto& files = wanted.open.files;
        const auto device = devices::vfio::read_sysfs_device(root_, *address);
        for (auto& problem : devices::vfio::assignment_problems(root_, device, wanted.open.backend, files)) {
            problem.where = where;
            problems_.push_back(std::move(problem));
        }
        if (!device.exists)
            return;
        if (one_to_one_) {
            check_reserved(where, device);
            check_width(where, device);
            check_entries(where, device, devices::vfio::choose_backend(root_, device, wanted.open.backend, files));
        }
        groups_.insert(device.group.value_or(0));
        vectors_ += std::max({device.msi_vectors, device.msix_vectors, 1U});
        for (const auto& bar : device.bars)
            if (bar.index != devices::vfio::region_rom)
                (bar.io ? io_ : bar.wide && bar.prefetchable ? wide_ : narrow_) += std::max(bar.size, page_size);
    }

    void check_reserved(const std::string& where, const SysfsDevice& device) {
        for (const auto& region : device.reserved)
            for (const auto& piece : ram_)
                if (!region.relaxable && region.range.start().raw() <= piece.last &&
                    piece.first <= region.range.last().raw())
                    add(where, Errc::reserved_conflict,
                        format("guest memory overlaps 0x%llx to 0x%llx, where %s may not do DMA",
                               static_cast<unsigned long long>(region.range.start().raw()),
                               static_cast<unsigned long long>(region.range.last().raw()),
                               device.function.address.c_str()),
                        "give the guest less memory, or put the device behind the virtual IOMMU");
    }

    void check_width(const std::string& where, const SysfsDevice& device) {
        if (device.address_bits != 0 && device.address_bits < 64 && ram_.back().last >> device.address_bits != 0)
            add(where, Errc::reserved_conflict,
                format("the IOMMU of %s takes addresses of %u bits: guest memory ends above",
                       device.function.address.c_str(), device.address_bits),
                "give the guest less memory");
    }

    void check_entries(const std::string& where, const SysfsDevice& device, Backend backend) {
        const auto path = root_ + "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
        if (backend != Backend::container || !host::exists(path))
            return;
        const auto limit = host::read_number(path);
        if (limit < ram_.size())
            add(where, Errc::no_resource,
                format("%zu DMA mappings are needed for guest memory, but a container takes %llu (%s)", ram_.size(),
                       static_cast<unsigned long long>(limit), device.function.address.c_str()),
                "raise dma_entry_limit of the module vfio_iommu_type1, or use the iommufd backend");
    }

    /// Each address space pins the guest's memory for itself.
    void check_locked_memory() {
        if (groups_.empty())
            return;
        const auto needed = config_.machine.memory * groups_.size();
        if (auto fits = limit_.check(0, needed,
                                     "DMA to guest memory, once for each of " + std::to_string(groups_.size()) +
                                         " IOMMU groups,");
            !fits)
            add("/vfio", Errc::no_resource, fits.error().what, fits.error().hint);
    }

    void check_room() {
        const auto room = [&](std::uint64_t needed, std::uint64_t there, const char* what) {
            if (needed > there)
                add("/vfio", Errc::no_resource,
                    "the devices' BARs need " + size_text(needed) + " of " + what + ", the guest has " +
                        size_text(there),
                    "assign fewer devices");
        };
        room(narrow_, layout::pci_bars_32.size(), "32-bit address space");
        room(wide_, layout::pci_bars_64.size(), "64-bit address space");
        if (io_ / page_size > layout::pci_io.size() / page_size)
            add("/vfio", Errc::no_resource, "the devices have more I/O BARs than the guest has ports for",
                "assign fewer devices");
        if (vectors_ > msi_routes)
            add("/vfio", Errc::no_resource,
                format("the devices have %u interrupt vectors, KVM has routes for %u", vectors_, msi_routes),
                "assign fewer devices");
    }

    const Config& config_;
    const std::string& root_;
    devices::vfio::LockLimit limit_;
    bool one_to_one_; ///< all guest memory is mapped; behind a virtual IOMMU the guest says what is
    std::vector<Piece> ram_{};
    std::set<unsigned> groups_{};
    unsigned vectors_{};
    std::uint64_t narrow_{};
    std::uint64_t wide_{};
    std::uint64_t io_{};
    std::vector<Error> problems_{};
};

} // namespace

std::vector<Error> vfio_preflight(const Config& config, const std::string& root,
                                  std::optional<devices::vfio::LockLimit> limit) {
    return VfioPreflight{config, root, limit ? *limit : devices::vfio::LockLimit::of_process(root)}.run();
}

} // namespace vmm
