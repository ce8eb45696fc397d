// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config.hpp"

#include <algorithm>
#include <utility>

#include "devices/pci/root_bus.hpp"
#include "vmm/boot/cmdline.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/config/root_names.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

/// pci= takes a list; each word of that name adds to it.
bool tells_pci_off(std::string_view cmdline) {
    for (const auto& word : boot::cmdline_words(cmdline))
        if (word.name == "pci" && ("," + std::string{word.value.value_or("")} + ",").contains(",off,"))
            return true;
    return false;
}

/// JSON pointer of what the device takes from the host: "/drives/0/path_on_host".
template <class Options> std::string json_pointer_of(const Options& options, std::size_t index) {
    std::string where = "/" + std::string{Kind<Options>::section};
    if (!Kind<Options>::single)
        where += "/" + std::to_string(index);
    if constexpr (requires { Kind<Options>::key_of(options); })
        return where += Kind<Options>::key_of(options);
    else
        return where += Kind<Options>::key;
}

} // namespace

std::optional<DeviceKind> parse_kind(std::string_view name) {
    const auto* found = std::ranges::find(DeviceKinds::names, name);
    if (found == DeviceKinds::names.end())
        return std::nullopt;
    return static_cast<DeviceKind>(found - DeviceKinds::names.begin());
}

std::string DeviceName::text() const { return std::string{kind_name(kind)} + " '" + id + "'"; }

DeviceName device_name(const DeviceConfig& device) {
    return std::visit(
        []<class Options>(const Options& options) {
            return DeviceName{kind_of<Options>, Kind<Options>::id(options)};
        },
        device);
}

void put_device(Config& config, DeviceConfig device) {
    const auto name = device_name(device);
    const bool single = is_single(name.kind);
    const auto found = std::ranges::find_if(config.devices, [&](const DeviceConfig& one) {
        return single ? one.index() == device.index() : device_name(one) == name;
    });
    if (found == config.devices.end())
        config.devices.push_back(std::move(device));
    else
        *found = std::move(device);
}

void remove_device(Config& config, const DeviceName& name) {
    std::erase_if(config.devices, [&](const DeviceConfig& one) { return device_name(one) == name; });
}

DeviceConfig* find_device(Config& config, const DeviceName& name) {
    const auto found = std::ranges::find(config.devices, name, device_name);
    return found == config.devices.end() ? nullptr : &*found;
}

namespace {

/// Of the devices that inox adds for the guest's root.
std::optional<std::string> place_of_root(const DeviceConfig& device) {
    const auto id = device_name(device).id;
    if (id == RootConfig::name)
        return "/root/path";
    return id == modules_share ? std::optional<std::string>{"/root/modules"} : std::nullopt;
}

} // namespace

std::vector<PlacedDevice> placed_devices(const Config& config) {
    std::vector<PlacedDevice> all;
    DeviceKinds::each([&]<class Options>() {
        using Its = Kind<Options>;
        const auto first = all.size();
        std::size_t index = 0;
        for (const auto& device : config.devices)
            if (const auto* options = std::get_if<Options>(&device))
                all.push_back({&device, place_of_root(device).value_or(json_pointer_of(*options, index++))});
        std::stable_partition(all.begin() + static_cast<std::ptrdiff_t>(first), all.end(),
                              [](const auto& placed) { return Its::comes_first(std::get<Options>(*placed.config)); });
    });
    return all;
}

std::size_t section_size(const Config& config, std::string_view section) {
    std::size_t size = 0;
    DeviceKinds::each([&]<class Options>() {
        if (!Kind<Options>::single && Kind<Options>::section == section)
            size = devices_of<Options>(config).size();
    });
    return size;
}

std::vector<PlacedPath> used_paths(const Config& config) {
    std::vector<PlacedPath> all;
    for (const auto& device : placed_devices(config))
        for (const auto& path :
             std::visit([]<class Options>(const Options& one) { return Kind<Options>::paths(one); }, *device.config))
            all.push_back({path, device.where});
    return all;
}

std::size_t virtio_device_count(const Config& config) {
    std::size_t count = 0;
    DeviceKinds::each([&]<class Options>() {
        if (!Kind<Options>::pci_only)
            count += devices_of<Options>(config).size();
    });
    return count;
}

bool has_pasids(const Config& config) { return config.pasid || device_of<DsaConfig>(config) != nullptr; }

bool boot_bypass(const Config& config) {
    const auto* iommu = device_of<IommuConfig>(config);
    return iommu != nullptr && iommu->bypass.value_or(device_of<VfioConfig>(config) == nullptr);
}

void use_default_cmdline(BootConfig& boot, std::string_view cmdline) {
    boot.cmdline = cmdline;
    boot.own_cmdline = false;
}

std::string machine_cmdline(const Config& config) {
    const std::string_view given = config.boot.cmdline;
    std::string words;
    const auto add = [&](const std::string& word) { words += (words.empty() ? "" : " ") + word; };
    if (config.machine.transport == Transport::mmio && !tells_pci_off(given))
        add("pci=off");
    const auto drives = devices_of<DriveConfig>(config);
    const auto root = std::ranges::find(drives, true, &DriveConfig::root);
    if (root != drives.end() && !boot::find_cmdline_word(given, "root")) {
        add("root=" + ((*root)->partuuid.empty() ? "/dev/vda" : "PARTUUID=" + (*root)->partuuid));
        add((*root)->block.read_only ? "ro" : "rw");
    }
    return words;
}

std::optional<Error> check_cpus(std::uint64_t cpus, unsigned most, bool smt) {
    static constexpr auto where = "/machine-config/vcpu_count";
    if (cpus < 1 || cpus > most)
        return error_at(where, Errc::cpus_invalid,
                        std::to_string(cpus) + " CPUs: a guest has 1 to " + std::to_string(most),
                        "ask for 1 to " + std::to_string(most) + " CPUs");
    if (smt && cpus != 1 && cpus % 2 != 0)
        return error_at(where, Errc::cpus_invalid, std::to_string(cpus) + " CPUs cannot be paired as SMT asks",
                        "use an even number of CPUs, or leave SMT off");
    return std::nullopt;
}

std::optional<Error> check_memory(std::uint64_t bytes, HugePages huge_pages) {
    static constexpr auto where = "/machine-config/mem_size_mib";
    const std::string size = size_text(bytes);
    const std::string range = size_text(layout::min_ram) + " to " + size_text(layout::max_ram);
    if (bytes < layout::min_ram)
        return error_at(where, Errc::memory_invalid, size + " of memory is too little: a guest has " + range,
                        "a Linux guest needs about 64M");
    if (bytes > layout::max_ram)
        return error_at(where, Errc::memory_invalid, size + " of memory is too much: a guest has " + range,
                        "ask for at most " + size_text(layout::max_ram));
    const std::uint64_t page = huge_pages == HugePages::two_mib ? 2 * MiB : page_size;
    if (!is_aligned(bytes, page))
        return error_at(where, Errc::memory_invalid,
                        size + " of memory is not a multiple of the page size of " + size_text(page),
                        "the next possible size is " + size_text(align_up(bytes, page)));
    return std::nullopt;
}

std::optional<Error> check_windows(const PciWindows& windows) {
    const auto wrong = [](std::optional<std::uint64_t> size, std::uint64_t most) {
        return size && (*size == 0 || *size > most || !is_aligned(*size, PciWindows::unit));
    };
    if (wrong(windows.bars_32, PciWindows::most_32))
        return error_at("/inox/pci_window_32_mib", Errc::config_value,
                        "a 32-bit window for BARs is 2 MiB to " + size_text(PciWindows::most_32) +
                            ", a multiple of 2 MiB, not " + size_text(*windows.bars_32),
                        "480M is usual; more takes the place of memory below 4 GiB");
    if (wrong(windows.bars_64, PciWindows::most_64))
        return error_at("/inox/pci_window_64_mib", Errc::config_value,
                        "a 64-bit window for BARs is 2 MiB to " + size_text(PciWindows::most_64) +
                            ", a multiple of 2 MiB, not " + size_text(*windows.bars_64),
                        "without the option it reaches as far as the CPU's addresses");
    return std::nullopt;
}

std::optional<Error> check_cmdline(std::string_view cmdline) {
    static constexpr auto where = "/boot-source/boot_args";
    if (cmdline.size() >= layout::cmdline_capacity)
        return error_at(where, Errc::cmdline_too_long,
                        format("the kernel command line has %zu bytes: there is room for %llu", cmdline.size(),
                               static_cast<unsigned long long>(layout::cmdline_capacity - 1)),
                        "most kernels take 2047; move long settings into the initrd");
    if (std::ranges::any_of(cmdline, is_control))
        return error_at(where, Errc::config_value, "the kernel command line holds a control character",
                        "write it as one line of text");
    return std::nullopt;
}

namespace {

/// Too many devices: the problem is reported for the longest list.
void check_room(const Config& config, std::vector<Error>& problems) {
    const bool pci = config.machine.transport == Transport::pci;
    const std::size_t room = pci ? devices::pci::RootBus::slots - 1 : max_mmio_devices; // the host bridge has one
    std::size_t count = 0;
    std::size_t longest = 0;
    std::string_view section;
    DeviceKinds::each([&]<class Options>() {
        const auto size = !pci && Kind<Options>::pci_only ? 0 : devices_of<Options>(config).size();
        count += size;
        if (size > std::exchange(longest, std::max(longest, size)))
            section = Kind<Options>::section;
    });
    if (count <= room)
        return;
    const auto text = format("%zu devices: a machine with%s PCI has room for %zu", count, pci ? "" : "out", room);
    problems.push_back(error_at("/" + std::string{section}, Errc::no_resource, text,
                                pci ? "use fewer devices" : "use fewer devices, or PCI (--enable-pci)", NoRoom{pci}));
}

} // namespace

Error used_twice(const std::string& id, const char* where) {
    return error_at(where, Errc::config_value, in_quotes(id) + " is used twice", "give each its own");
}

/// Who writes to the guest's memory without telling.
void check_tracking(const Config& config, std::vector<Error>& problems) {
    if (!config.machine.track_dirty_pages)
        return;
    for (const auto& device : config.devices) {
        const auto* share = std::get_if<devices::virtio::FsOptions>(&device);
        if (std::holds_alternative<VfioConfig>(device) || (share != nullptr && !share->socket.empty()))
            problems.push_back(error_at("/machine-config/track_dirty_pages", Errc::config_value,
                                        "what " + device_name(device).text() + " writes to memory cannot be tracked",
                                        "leave out one of them"));
    }
}

std::vector<Error> check(const Config& config) {
    static constexpr auto name_kernel = "name the kernel too: the built-in guest takes no initrd and no command line";
    std::vector<Error> problems;
    const auto add = [&](std::optional<Error> found) {
        if (found)
            problems.push_back(std::move(*found));
    };
    add(check_cpus(config.machine.cpus, config.machine.most_cpus, config.machine.smt));
    add(check_memory(config.machine.memory, config.machine.huge_pages));
    add(check_cmdline(config.boot.cmdline));
    add(check_windows(config.machine.windows));
    if (config.machine.windows != PciWindows{} && config.machine.transport == Transport::mmio)
        add(error_at("/inox", Errc::config_value, "a machine without PCI has no windows for BARs",
                     "start it with PCI (--enable-pci), or leave out pci_window_32_mib and pci_window_64_mib"));
    if (config.boot.kernel.empty() && !config.boot.initrd.empty())
        add(error_at("/boot-source/initrd_path", Errc::config_missing_key, "an initrd needs a kernel", name_kernel));
    if (config.boot.kernel.empty() && !config.boot.cmdline.empty())
        add(error_at("/boot-source/boot_args", Errc::config_missing_key, "a command line needs a kernel", name_kernel));
    check_tracking(config, problems);
    check_root(config, problems);
    DeviceKinds::each([&]<class Options>() { Kind<Options>::check(config, problems); });
    check_room(config, problems);
    return problems;
}

} // namespace inox
