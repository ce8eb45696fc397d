// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config.hpp"

#include <algorithm>

#include "devices/pci/root_bus.hpp"
#include "devices/virtio/net/tap.hpp"
#include "vmm/boot/cmdline.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/config/config_vfio.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

std::optional<Error> problem(Errc code, const char* where, std::string what, std::string hint) {
    return Error{code, std::move(what), std::move(hint), where, 0};
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

/// pci= takes a list; each word of that name adds to it.
bool tells_pci_off(std::string_view cmdline) {
    for (const auto& word : boot::cmdline_words(cmdline))
        if (word.name == "pci" && ("," + std::string{word.value.value_or("")} + ",").contains(",off,"))
            return true;
    return false;
}

} // namespace

std::size_t virtio_device_count(const Config& config) {
    return config.drives.size() + config.nets.size() + config.shares.size() + (config.vsock ? 1 : 0) +
           (config.entropy ? 1 : 0) + (config.balloon ? 1 : 0) + (config.console ? 1 : 0);
}

bool has_pasids(const Config& config) { return config.pasid || config.dsa; }

bool boot_bypass(const Config& config) { return config.iommu && config.iommu->bypass.value_or(config.vfio.empty()); }

std::vector<PlacedDevice> placed_devices(const Config& config) {
    std::vector<PlacedDevice> all;
    const auto in_list = [](const char* list, std::size_t index, const char* key = "") {
        return list + ("/" + std::to_string(index)) + key;
    };
    for (const bool root : {true, false})
        for (std::size_t i = 0; i < config.drives.size(); ++i)
            if (config.drives[i].root == root)
                all.push_back({config.drives[i], in_list("/drives", i, "/path_on_host")});
    for (std::size_t i = 0; i < config.nets.size(); ++i)
        all.push_back({config.nets[i], in_list("/network-interfaces", i, "/host_dev_name")});
    const auto add_one = [&](const auto& one, const char* where) {
        if (one)
            all.push_back({*one, where});
    };
    add_one(config.vsock, "/vsock/uds_path");
    add_one(config.entropy, "/entropy");
    add_one(config.balloon, "/balloon");
    add_one(config.console, "/console/path");
    for (std::size_t i = 0; i < config.shares.size(); ++i)
        all.push_back({config.shares[i], in_list("/shares", i, "/socket")});
    for (std::size_t i = 0; i < config.vfio.size(); ++i)
        all.push_back({config.vfio[i], in_list("/vfio", i)});
    add_one(config.dsa, "/dsa/forward");
    return all;
}

std::vector<DeviceConfig> device_configs(const Config& config) {
    std::vector<DeviceConfig> all;
    for (auto& device : placed_devices(config))
        all.push_back(std::move(device.config));
    return all;
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
    const auto root = std::ranges::find(config.drives, true, &DriveConfig::root);
    if (root != config.drives.end() && !boot::find_cmdline_word(given, "root")) {
        add("root=" + (root->partuuid.empty() ? "/dev/vda" : "PARTUUID=" + root->partuuid));
        add(root->block.read_only ? "ro" : "rw");
    }
    return words;
}

std::optional<Error> check_cpus(std::uint64_t cpus, unsigned most, bool smt) {
    static constexpr auto where = "/machine-config/vcpu_count";
    if (cpus < 1 || cpus > most)
        return problem(Errc::cpus_invalid, where,
                       std::to_string(cpus) + " CPUs: a guest has 1 to " + std::to_string(most),
                       "ask for 1 to " + std::to_string(most) + " CPUs");
    if (smt && cpus != 1 && cpus % 2 != 0)
        return problem(Errc::cpus_invalid, where, std::to_string(cpus) + " CPUs cannot be paired as SMT asks",
                       "use an even number of CPUs, or leave SMT off");
    return std::nullopt;
}

std::optional<Error> check_memory(std::uint64_t bytes, HugePages huge_pages) {
    static constexpr auto where = "/machine-config/mem_size_mib";
    const std::string size = size_text(bytes);
    const std::string range = size_text(layout::min_ram) + " to " + size_text(layout::max_ram);
    if (bytes < layout::min_ram)
        return problem(Errc::memory_invalid, where, size + " of memory is too little: a guest has " + range,
                       "a Linux guest needs about 64M");
    if (bytes > layout::max_ram)
        return problem(Errc::memory_invalid, where, size + " of memory is too much: a guest has " + range,
                       "ask for at most " + size_text(layout::max_ram));
    const std::uint64_t page = huge_pages == HugePages::two_mib ? 2 * MiB : page_size;
    if (!is_aligned(bytes, page))
        return problem(Errc::memory_invalid, where,
                       size + " of memory is not a multiple of the page size of " + size_text(page),
                       "the next possible size is " + size_text(align_up(bytes, page)));
    return std::nullopt;
}

std::optional<Error> check_windows(const PciWindows& windows) {
    const auto wrong = [](std::optional<std::uint64_t> size, std::uint64_t most) {
        return size && (*size == 0 || *size > most || !is_aligned(*size, PciWindows::unit));
    };
    if (wrong(windows.bars_32, PciWindows::most_32))
        return problem(Errc::config_value, "/inox/pci_window_32_mib",
                       "a 32-bit window for BARs is 2 MiB to " + size_text(PciWindows::most_32) +
                           ", a multiple of 2 MiB, not " + size_text(*windows.bars_32),
                       "480M is usual; more takes the place of memory below 4 GiB");
    if (wrong(windows.bars_64, PciWindows::most_64))
        return problem(Errc::config_value, "/inox/pci_window_64_mib",
                       "a 64-bit window for BARs is 2 MiB to " + size_text(PciWindows::most_64) +
                           ", a multiple of 2 MiB, not " + size_text(*windows.bars_64),
                       "without the option it reaches as far as the CPU's addresses");
    return std::nullopt;
}

std::optional<Error> check_cmdline(std::string_view cmdline) {
    static constexpr auto where = "/boot-source/boot_args";
    if (cmdline.size() >= layout::cmdline_capacity)
        return problem(Errc::cmdline_too_long, where,
                       format("the kernel command line has %zu bytes: there is room for %llu", cmdline.size(),
                              static_cast<unsigned long long>(layout::cmdline_capacity - 1)),
                       "most kernels take 2047; move long settings into the initrd");
    if (std::ranges::any_of(cmdline, is_control))
        return problem(Errc::config_value, where, "the kernel command line holds a control character",
                       "write it as one line of text");
    return std::nullopt;
}

namespace {

/// Ids must differ within a list; the second one is at fault.
template <class List, class Id>
void check_ids(const List& list, const char* where, Id id, std::vector<Error>& problems) {
    for (auto one = list.begin(); one != list.end(); ++one)
        if (std::any_of(list.begin(), one, [&](const auto& other) { return id(other) == id(*one); }))
            problems.push_back(
                {Errc::config_value, in_quotes(id(*one)) + " is used twice", "give each its own", where, 0});
}

/// The longest list is at fault.
void check_room(const Config& config, std::vector<Error>& problems) {
    const bool pci = config.machine.transport == Transport::pci;
    const std::size_t room = pci ? devices::pci::RootBus::slots - 1 : max_mmio_devices; // the host bridge has one
    const std::size_t pci_only = config.vfio.size() + (config.dsa ? 1 : 0) + (config.iommu ? 1 : 0);
    const auto count = virtio_device_count(config) + (pci ? pci_only : 0);
    if (count <= room)
        return;
    const std::pair<std::size_t, const char*> lists[] = {{config.drives.size(), "/drives"},
                                                         {config.nets.size(), "/network-interfaces"},
                                                         {config.shares.size(), "/shares"},
                                                         {pci ? config.vfio.size() : 0, "/vfio"}};
    const auto text = format("%zu devices: a machine with%s PCI has room for %zu", count, pci ? "" : "out", room);
    problems.push_back({Errc::no_resource, text, pci ? "use fewer devices" : "use fewer devices, or PCI (--enable-pci)",
                        std::ranges::max_element(lists, {}, &std::pair<std::size_t, const char*>::first)->second, 0,
                        NoRoom{pci}});
}

void check_devices(const Config& config, std::vector<Error>& problems) {
    check_ids(
        config.drives, "/drives", [](const auto& drive) { return drive.block.id; }, problems);
    check_ids(
        config.nets, "/network-interfaces", [](const auto& net) { return net.id; }, problems);
    check_ids(
        config.nets, "/network-interfaces", [](const auto& net) { return net.tap; }, problems);
    check_ids(
        config.shares, "/shares", [](const auto& share) { return share.tag; }, problems);
    check_ids(
        config.vfio, "/vfio", [](const auto& device) { return device.open.id; }, problems);
    check_vfio(config, problems);
    check_room(config, problems);
    for (std::size_t i = 0; i < config.nets.size(); ++i)
        if (auto tap = devices::virtio::Tap::create(config.nets[i].tap); !tap && !config.nets[i].tap.empty()) {
            tap.error().what = printable(tap.error().what, 200);
            tap.error().where = "/network-interfaces/" + std::to_string(i) + "/host_dev_name";
            problems.push_back(std::move(tap).error());
        }
    for (auto one = config.nets.begin(); one != config.nets.end(); ++one)
        if (one->mac && std::any_of(config.nets.begin(), one, [&](const auto& other) { return other.mac == one->mac; }))
            problems.push_back({Errc::config_value, "two interfaces have the MAC address " + one->mac->text(),
                                "give each interface its own", "/network-interfaces", 0, MacTaken{one->mac->text()}});
    if (config.balloon && config.balloon->target >= config.machine.memory)
        problems.push_back({Errc::config_value,
                            "a balloon of " + size_text(config.balloon->target) + " leaves nothing of " +
                                size_text(config.machine.memory) + " of memory",
                            "give the guest more memory, or make the balloon smaller", "/balloon/amount_mib", 0});
    if (config.iommu && config.machine.transport != Transport::pci)
        problems.push_back({Errc::config_value, "an IOMMU needs PCI, which this machine does not have",
                            "start it with PCI (--enable-pci), or leave out the IOMMU", "/iommu", 0});
    if (config.dsa && config.machine.transport == Transport::mmio)
        problems.push_back({Errc::config_value, "the accelerator is a PCI device, and this machine has no PCI",
                            "add --enable-pci, or leave out the accelerator", "/dsa", 0});
    if (config.dsa && config.dsa->shape.entries < config.dsa->shape.queues)
        problems.push_back({Errc::config_value, "there are fewer entries than queues",
                            "give each queue at least one entry", "/dsa/entries", 0});
    if (std::ranges::count(config.drives, true, &DriveConfig::root) > 1)
        problems.push_back({Errc::config_value, "more than one disk is the root disk",
                            "set is_root_device on one drive only", "/drives", 0, SecondRootDisk{}});
}

} // namespace

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
        add(problem(Errc::config_value, "/inox", "a machine without PCI has no windows for BARs",
                    "start it with PCI (--enable-pci), or leave out pci_window_32_mib and pci_window_64_mib"));
    if (config.boot.kernel.empty() && !config.boot.initrd.empty())
        add(problem(Errc::config_missing_key, "/boot-source/initrd_path", "an initrd needs a kernel", name_kernel));
    if (config.boot.kernel.empty() && !config.boot.cmdline.empty())
        add(problem(Errc::config_missing_key, "/boot-source/boot_args", "a command line needs a kernel", name_kernel));
    check_devices(config, problems);
    return problems;
}

} // namespace inox
