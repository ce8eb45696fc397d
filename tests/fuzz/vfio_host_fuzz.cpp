// SPDX-License-Identifier: Apache-2.0
// What the host says of its devices: reserved regions, capability chains, PCI addresses, and a tree of sysfs. The first
// byte of the input chooses between a text, the kernel's answers to one question, and a tree.
#include <algorithm>
#include <string_view>

#include "devices/vfio/capabilities.hpp"
#include "devices/vfio/dma/window.hpp"
#include "devices/vfio/pci_address.hpp"
#include "devices/vfio/sysfs.hpp"
#include "tests/fakes/vfio_tree.hpp"
#include "tests/fuzz/input.hpp"

using namespace inox;

namespace {

using namespace devices::vfio;
using fuzz::Input;
using fuzz::require;

void windows(std::string_view text) {
    const auto lines = parse_reserved(text);
    std::vector<IovaRange> usable; // every third line is a range that the kernel allows to map
    for (std::size_t i = 0; i < lines.size(); i += 3)
        usable.push_back(lines[i].range);
    const auto window = make_window(usable, lines, 0x1000);
    for (std::size_t i = 1; i < window.apertures.size(); ++i)
        require(window.apertures[i - 1].last() < window.apertures[i].start());
    for (std::size_t i = 1; i < window.reserved.size(); ++i)
        require(window.reserved[i - 1].range.last() < window.reserved[i].range.start());
    for (const auto& aperture : window.apertures)
        for (const auto& line : lines)
            require(line.relaxable || !aperture.overlaps(line.range));
    for (const auto& region : window.reserved)
        for (const auto& aperture : window.apertures)
            require(!aperture.overlaps(region.range));
}

void chains(std::span<const std::byte> answer) {
    for (const std::uint32_t first : {0U, 8U, 24U, 32U, 0xfffffff8U})
        for (const auto& capability : info_capabilities(answer, first))
            require(capability.body.data() + capability.body.size() == answer.data() + answer.size());
}

/// The kernel fills a buffer in, fails, or wants a larger one: four bytes a call.
void answers(Input input) {
    constexpr std::size_t base = 16;
    const auto start = input.take(input.take<std::uint8_t>() % 32U);
    int error = 0;
    std::size_t last = 0;
    const auto answer = ask_with_capabilities(
        base, start,
        [&](std::span<std::byte> buffer) {
            require(buffer.size() >= base && load_le<std::uint32_t>(buffer) == buffer.size());
            last = buffer.size();
            const auto wanted = input.take<std::uint32_t>();
            store_le(buffer.first(4), wanted);
            std::ranges::copy(input.take(std::min<std::size_t>(buffer.size() - 4, wanted % 64)), buffer.begin() + 4);
            return (wanted & 0xff) == 0xfe ? -22 : 0;
        },
        error);
    require(error < 0 ? answer.empty() : answer.size() == last);
    chains(answer);
}

/// A host with two functions of one slot. It is filled in from the input and emptied afterwards.
class Host {
public:
    static constexpr std::array<const char*, 2> names{"0000:01:00.0", "0000:01:00.1"};

    void fill(Input& input) {
        while (!input.empty()) {
            const auto what = input.take<std::uint8_t>();
            const std::string home = std::string{"sys/bus/pci/devices/"} + names[what & 1];
            const std::string group = "sys/kernel/iommu_groups/7";
            static constexpr std::array<const char*, 6> files{"vendor",   "device", "class",
                                                              "resource", "config", "reset_method"};
            static constexpr std::array<const char*, 5> drivers{"vfio-pci", "nvme", "pci-stub", "mlx5_vfio_pci", ""};
            switch (what / 2 % 16) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
            case 5:
                file(home + "/" + files[what / 2 % 16], input);
                break;
            case 6:
                tree_.set_driver(names[what & 1], drivers[input.take<std::uint8_t>() % drivers.size()]);
                break;
            case 7:
                tree_.link(home + "/iommu_group", "../../../../kernel/iommu_groups/" + number(input));
                break;
            case 8:
                tree_.link(group + "/devices/" + names[what & 1],
                           std::string{"../../../../bus/pci/devices/"} + names[what & 1]);
                break;
            case 9:
                file(group + "/reserved_regions", input);
                break;
            case 10:
                tree_.file(group + "/name", (what & 1) != 0 ? "vfio-noiommu\n" : "x\n");
                break;
            case 11:
                tree_.link(home + "/iommu", "../../../devices/virtual/iommu/dmar0");
                file("sys/class/iommu/dmar0/intel-iommu/cap", input);
                break;
            case 12:
                tree_.directory((what & 1) != 0 ? "sys/class/vfio-dev" : "sys/class/iommu/iommufd_selftest_iommu.0");
                break;
            case 13:
                tree_.device_file(names[what & 1], "vfio" + number(input));
                break;
            case 14:
                tree_.file((what & 1) != 0 ? "dev/vfio/7" : "dev/vfio/vfio");
                break;
            default: // on the host's root bus, or behind a bridge
                if (const std::string real = (what & 1) != 0 ? "sys/devices/pci0000:00" : "sys/devices/bridge";
                    !std::filesystem::exists(tree_.root() + "/sys/bus/pci/devices/" + names[0])) {
                    tree_.directory(real + "/" + names[0]);
                    tree_.link(std::string{"sys/bus/pci/devices/"} + names[0], "../../../../" + real + "/" + names[0]);
                }
            }
        }
    }

    void look() const {
        const auto address = *PciAddress::parse(names[0]);
        const auto device = read_sysfs_device(tree_.root(), address);
        require(device.bars.size() <= 7 && device.msi_vectors <= 128 && device.msix_vectors <= 2048);
        for (const auto& bar : device.bars)
            require(bar.index <= SysfsBar::rom);
        for (std::size_t given = 0; given < 3; ++given) {
            OpenOptions options{
                .id = {}, .host = {}, .backend = static_cast<Backend>(given), .files = {}, .vf_token = {}};
            for (const auto& problem : assignment_problems(tree_.root(), device, options))
                require(!problem.what.empty() && !problem.hint.empty());
            require(device.exists || !assignment_problems(tree_.root(), device, options).empty());
            require(options.backend == Backend::automatic ||
                    choose_backend(tree_.root(), device, options) == options.backend);
        }
        std::vector<PciAddress> reached;
        for (const char* name : names)
            reached.push_back(*PciAddress::parse(name));
        require(!bus_reset_obstacle(tree_.root(), address, reached).empty());
        require(bind_commands(device.function).contains(names[0]));
    }

    void clear() const {
        for (const char* part : {"sys/bus/pci/devices", "sys/kernel", "sys/class", "sys/devices", "dev"})
            tree_.remove(part);
    }

private:
    void file(const std::string& path, Input& input) const {
        const auto bytes = input.take(input.take<std::uint8_t>());
        tree_.file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}); // NOLINT
    }
    static std::string number(Input& input) {
        const auto byte = input.take<std::uint8_t>();
        return byte == 0xff ? "none" : std::to_string(byte);
    }

    fakes::VfioTree tree_{};
};

void tree(Input input) {
    static Host host;
    host.fill(input);
    host.look();
    host.clear();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto bytes = std::as_bytes(std::span{data, size});
    if (size != 0 && data[0] == 't') {
        tree(Input{bytes.subspan(1).first(std::min<std::size_t>(size - 1, 2048))});
        return 0;
    }
    if (size != 0 && data[0] == 'a') {
        answers(Input{bytes.subspan(1)});
        return 0;
    }
    const std::string_view text{reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 4096)}; // NOLINT
    windows(text);
    chains(bytes);
    if (const auto address = PciAddress::parse(text))
        require(PciAddress::parse(address->text()) == address);
    return 0;
}
