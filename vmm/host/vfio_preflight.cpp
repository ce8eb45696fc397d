// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/vfio_preflight.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <set>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/lock_limit.hpp"
#include "devices/vfio/session.hpp"
#include "devices/vfio/sysfs.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

using devices::vfio::Backend;
using devices::vfio::SysfsDevice;

/// Interrupt routes of KVM that are left for a guest's MSI and MSI-X vectors.
constexpr unsigned msi_routes = 4096 - layout::io_apic_pins;

class VfioPreflight {
public:
    VfioPreflight(const Config& config, const VfioHost& host)
        : config_{config}, root_{host.root}, limit_{host.limit ? *host.limit
                                                               : devices::vfio::LockLimit::of_process(host.root)},
          kernel_{host.kernel}, one_to_one_{device_of<IommuConfig>(config) == nullptr || boot_bypass(config)},
          // Memory that the CPU cannot address is reported elsewhere.
          addresses_{
              plan_addresses(config.machine.memory, host.address_bits, config.machine.windows).value_or(AddressMap{})} {
    }

    VfioFindings run() {
        const auto hole = addresses_.hole.raw();
        ram_.push_back({0, std::min(config_.machine.memory, hole) - 1});
        if (config_.machine.memory > hole)
            ram_.push_back(
                {layout::ram_above_hole.raw(), layout::ram_above_hole.raw() + config_.machine.memory - hole - 1});
        needs_.room_32 = addresses_.bars_32.size();
        needs_.room_64 = addresses_.bars_64 ? addresses_.bars_64->size() : 0;
        for (std::size_t i = 0; i < wanted_.size(); ++i)
            check_device("/vfio/" + std::to_string(i), *wanted_[i]);
        needs_.groups = groups_.size();
        needs_.lock_limit = limit_.bytes();
        if (one_to_one_)
            check_locked_memory();
        check_room();
        if (kernel_ && problems_.empty()) // opening resets the devices: not when they are refused anyway
            open_devices();
        return {std::move(problems_), std::move(needs_)};
    }

private:
    struct Piece {
        std::uint64_t first;
        std::uint64_t last;
    };
    struct Bar {
        std::uint64_t size;
        std::string device;
        unsigned index;
    };
    void add(const std::string& where, Errc code, std::string what, std::string hint) {
        problems_.push_back({code, std::move(what), std::move(hint), where, 0});
    }

    void check_device(const std::string& where, const VfioConfig& wanted) {
        const auto address = devices::vfio::check_options(wanted.open);
        if (!address)
            return; // reported when the configuration was read
        const auto device = devices::vfio::read_sysfs_device(root_, *address);
        for (auto& problem : devices::vfio::assignment_problems(root_, device, wanted.open)) {
            problem.where = where;
            problems_.push_back(std::move(problem));
        }
        if (!device.exists)
            return;
        const auto backend = devices::vfio::choose_backend(root_, device, wanted.open);
        if (one_to_one_) {
            check_reserved(where, device);
            check_width(where, device);
            check_entries(where, device, backend);
        }
        groups_.insert(device.group.value_or(0));
        VfioNeeds::Device one{.host = device.function.address, .group = device.group, .backend = backend};
        one.vectors = std::max({device.msi_vectors, device.msix_vectors, 1U});
        needs_.vectors += one.vectors;
        // A start places the BARs of one device from the largest to the smallest.
        auto bars = device.bars;
        std::ranges::stable_sort(bars, std::greater{}, &devices::vfio::SysfsBar::size);
        for (const auto& bar : bars) {
            if (bar.index == devices::vfio::SysfsBar::rom)
                continue;
            ++one.bars;
            if (bar.io) {
                ++needs_.io_bars;
                continue;
            }
            one.bar_bytes += bar.size;
            const auto size = std::max(bar.size, page_size);
            const bool wide = bar.wide && addresses_.bars_64;
            (wide ? needs_.bars_64 : needs_.bars_32) += size;
            (wide ? wide_bars_ : bars_).push_back({size, device.function.address, bar.index});
        }
        needs_.devices.push_back(std::move(one));
    }

    /// Opens all of them at once, as a start does: a bus can be reset only while every function on it is open.
    void open_devices() {
        devices::vfio::Session session{{}, *kernel_, root_, limit_};
        std::vector<std::unique_ptr<devices::vfio::Device>> open;
        for (std::size_t i = 0; i < wanted_.size(); ++i) {
            auto device = devices::vfio::Device::open(session, wanted_[i]->open);
            if (device) {
                open.push_back(std::move(*device));
                continue;
            }
            device.error().where = "/vfio/" + std::to_string(i);
            problems_.push_back(std::move(device).error());
        }
    }

    void check_reserved(const std::string& where, const SysfsDevice& device) {
        for (const auto& region : device.reserved)
            for (const auto& piece : ram_)
                if (!region.relaxable && region.range.start().raw() <= piece.last &&
                    piece.first <= region.range.last().raw())
                    add(where, Errc::reserved_conflict,
                        format("guest memory overlaps 0x%llx to 0x%llx, where %s may not do DMA",
                               hex(region.range.start()), hex(region.range.last()), device.function.address.c_str()),
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

    /// Each address space pins the whole guest memory.
    void check_locked_memory() {
        if (groups_.empty())
            return;
        needs_.locked = config_.machine.memory * groups_.size();
        if (auto fits = limit_.check(0, needs_.locked,
                                     "DMA to guest memory, once for each of " + std::to_string(groups_.size()) +
                                         " IOMMU groups,");
            !fits)
            add("/vfio", Errc::no_resource, fits.error().what, fits.error().hint);
    }

    void check_room() {
        const auto room = [&](std::uint64_t needed, std::uint64_t there, const char* what, const char* option) {
            if (needed > there)
                add("/vfio", Errc::no_resource,
                    "the devices' BARs need " + size_text(needed) + " of " + what + ", the guest has " +
                        size_text(there),
                    std::string{"assign fewer devices, or make more room: "} + option);
            return needed <= there;
        };
        if (room(needs_.bars_32, needs_.room_32, "32-bit address space", "--pci-window-32"))
            check_places(bars_, addresses_.bars_32, "--pci-window-32");
        if (room(needs_.bars_64, needs_.room_64, "64-bit address space", "--pci-window-64") && addresses_.bars_64)
            check_places(wide_bars_, *addresses_.bars_64, "--pci-window-64");
        if (needs_.io_bars > layout::pci_io.size() / page_size)
            add("/vfio", Errc::no_resource, "the devices have more I/O BARs than the guest has ports for",
                "assign fewer devices");
        if (needs_.vectors > msi_routes)
            add("/vfio", Errc::no_resource,
                format("the devices have %u interrupt vectors, KVM has routes for %u", needs_.vectors, msi_routes),
                "assign fewer devices");
    }

    /// Each BAR lies at a multiple of its size, so one may not fit although the sum does. The guest's other devices are
    /// placed first and take little.
    void check_places(const std::vector<Bar>& bars, Range<Gpa> window, const char* option) {
        constexpr std::uint64_t others = MiB;
        std::vector<Piece> taken{{window.start().raw(), window.start().raw() + others - 1}};
        for (const auto& bar : bars) {
            auto first = align_up(window.start().raw(), bar.size);
            for (const auto& piece : taken) // in order of address
                if (first <= piece.last && piece.first <= first + bar.size - 1)
                    first = align_up(piece.last + 1, bar.size);
            const auto place = Range<Gpa>::sized(Gpa{first}, bar.size);
            if (!place || !window.contains(*place))
                return add("/vfio", Errc::no_resource,
                           format("there is no room for BAR %u of %s (%s) beside the others, at a multiple of its size",
                                  bar.index, bar.device.c_str(), size_text(bar.size).c_str()),
                           std::string{"assign fewer devices, or make more room: "} + option);
            taken.insert(std::ranges::upper_bound(taken, first, {}, &Piece::first), {first, first + bar.size - 1});
        }
    }

    const Config& config_;
    const std::vector<const VfioConfig*> wanted_{devices_of<VfioConfig>(config_)};
    const std::string root_;
    devices::vfio::LockLimit limit_;
    devices::vfio::Kernel* kernel_;
    bool one_to_one_; ///< all guest memory is mapped; behind a virtual IOMMU the guest chooses
    AddressMap addresses_;
    std::vector<Piece> ram_{};
    std::vector<Bar> bars_{}; ///< in the order in which a start places them
    std::vector<Bar> wide_bars_{};
    std::set<unsigned> groups_{};
    VfioNeeds needs_{};
    std::vector<Error> problems_{};
};

} // namespace

VfioFindings vfio_preflight(const Config& config, const VfioHost& host) { return VfioPreflight{config, host}.run(); }

std::string vfio_needs_text(const VfioNeeds& needs) {
    const auto counted = [](std::size_t count, const char* what) {
        return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
    };
    std::string out;
    for (const auto& one : needs.devices)
        out += one.host + ": " + (one.group ? "IOMMU group " + std::to_string(*one.group) : "no IOMMU group yet") +
               ", " + devices::vfio::backend_name(one.backend) + ", " + counted(one.bars, "BAR") +
               (one.bars == 0 ? "" : " of " + size_text(one.bar_bytes)) + ", " + counted(one.vectors, "vector") + "\n";
    if (needs.devices.empty())
        return out;
    const auto limit = needs.lock_limit ? "limit " + size_text(*needs.lock_limit) : std::string{"no limit"};
    return out + "together: " +
           (needs.locked == 0 ? "no memory locked in advance, because the guest's IOMMU decides what is mapped"
                              : size_text(needs.locked) + " of memory locked for " + counted(needs.groups, "group") +
                                    " (" + limit + ")") +
           "; BARs: " + size_text(needs.bars_32) + " of " + size_text(needs.room_32) + " below 4 GiB, " +
           size_text(needs.bars_64) + " of " + size_text(needs.room_64) + " above; " + std::to_string(needs.vectors) +
           " of " + counted(msi_routes, "vector") + "\n";
}

} // namespace inox
