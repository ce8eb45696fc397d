// SPDX-License-Identifier: Apache-2.0
// Assigned host devices: the keys, the option, the rules.
#include "devices/vfio/pci_address.hpp"
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

VfioConfig& vfio(ConfigFile& file) { return being_read<VfioConfig>(file); }

void read_backend(const JsonValue& value, ConfigFile& file) {
    static constexpr std::string_view names[] = {"auto", "container", "iommufd"};
    using devices::vfio::Backend;
    static_assert(static_cast<int>(Backend::automatic) == 0 && static_cast<int>(Backend::container) == 1 &&
                  static_cast<int>(Backend::iommufd) == 2);
    if (const auto index = value.one_of(names))
        vfio(file).open.backend = static_cast<Backend>(*index);
}

void read_relocation(const JsonValue& value, ConfigFile& file) {
    static constexpr std::string_view names[] = {"off", "auto", "bar0", "bar1", "bar2", "bar3", "bar4", "bar5"};
    constexpr std::size_t first_bar = 2;
    const auto index = value.one_of(names).value_or(0);
    vfio(file).relocate_msix = index != 0;
    if (index >= first_bar)
        vfio(file).msix_bar = static_cast<unsigned>(index - first_bar);
}

template <int devices::vfio::OpenFiles::*file> void read_descriptor(const JsonValue& value, ConfigFile& out) {
    constexpr std::uint64_t standard_streams = 3;
    const auto fd = value.number({0, INT32_MAX}, Errc::config_value, {standard_streams, INT32_MAX});
    if (fd && *fd < standard_streams)
        value.report(Errc::config_value, "descriptor " + std::to_string(*fd) + " is a standard stream",
                     "give the number of a descriptor that the launcher opened");
    else if (fd)
        vfio(out).open.files.*file = static_cast<int>(*fd);
}

constexpr Field fields[] = {
    {"host", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_text(value, vfio(file).open.host); }},
    {"id", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { vfio(file).open.id = read_id(value); }},
    {"backend", Need::optional, Null::means_absent, read_backend},
    {"vf_token", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_text(value, vfio(file).open.vf_token); }},
    {"rom", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { vfio(file).rom = value.boolean().value_or(true); }},
    {"p2p", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { vfio(file).open.p2p = value.boolean().value_or(false); }},
    {"relocate_msix", Need::optional, Null::means_absent, read_relocation},
    {"container_fd", Need::optional, Null::means_absent, read_descriptor<&devices::vfio::OpenFiles::container>},
    {"group_fd", Need::optional, Null::means_absent, read_descriptor<&devices::vfio::OpenFiles::group>},
    {"iommu_fd", Need::optional, Null::means_absent, read_descriptor<&devices::vfio::OpenFiles::iommufd>},
    {"device_fd", Need::optional, Null::means_absent, read_descriptor<&devices::vfio::OpenFiles::device>},
};

/// A path of sysfs is good for --vfio only.
void read_sbdf(const JsonValue& value, ConfigFile& file) {
    auto& host = vfio(file).open.host;
    read_text(value, host);
    if (value.json().is_string() && !devices::vfio::PciAddress::parse(host))
        value.report(Errc::config_value, in_quotes(host) + " is not a PCI address",
                     "write it as 0000:01:00.0; `inox host` lists the devices", NoHostAddress{printable(host)});
}

constexpr Field passthrough_fields[] = {
    {"id", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { vfio(file).open.id = read_id(value); }},
    {"sbdf", Need::required, Null::refused, read_sbdf},
};

void begin(ConfigFile& file) {
    const auto number = devices_of<VfioConfig>(file.config).size();
    begin_device<VfioConfig>(file);
    vfio(file).open.id = "vfio" + std::to_string(number);
}

Result<void> add(const CommandOption& self, const std::string& text, ConfigFile& file) {
    return add_named(self, "host", text, file);
}

} // namespace

std::span<const Section> Kind<VfioConfig>::sections() {
    static const Section all[] = {
        {.name = section, .fields = fields, .list = true, .begin = begin},
        // The same in Firecracker's form.
        {.name = "device-passthrough", .fields = passthrough_fields, .list = true, .begin = begin_device<VfioConfig>}};
    return all;
}

CommandOption Kind<VfioConfig>::option() {
    return {"--vfio",
            "ADDRESS[,id=I]",
            "the guest gets this PCI device of the host, such as 0000:01:00.0; more keys in docs/config.md",
            "/vfio",
            add,
            true};
}

void Kind<VfioConfig>::check(const Config& config, std::vector<Error>& problems) {
    const auto devices = devices_of<VfioConfig>(config);
    check_unique(
        devices, "/vfio", [](const auto& device) { return device.open.id; }, problems);
    std::vector<devices::vfio::PciAddress> seen;
    for (std::size_t i = 0; i < devices.size(); ++i) {
        const std::string where = "/vfio/" + std::to_string(i);
        const auto& open = devices[i]->open;
        const auto address = devices::vfio::check_options(open);
        if (!address) {
            auto problem = address.error();
            problem.where = where;
            problems.push_back(std::move(problem));
            continue;
        }
        if (std::ranges::find(seen, *address) != seen.end())
            problems.push_back(error_at(where + "/host", Errc::config_value, address->text() + " is assigned twice",
                                        "remove one of them", HostDeviceTaken{}));
        if (open.p2p && device_of<IommuConfig>(config) != nullptr)
            problems.push_back(
                error_at(where + "/p2p", Errc::config_value,
                         "behind the guest's IOMMU devices do not reach each other's BARs: p2p=on is not possible",
                         "leave out p2p=on, or --iommu"));
        seen.push_back(*address);
    }
    if (!devices.empty() && config.machine.transport == Transport::mmio)
        problems.push_back(error_at("/vfio", Errc::config_value, "a machine without PCI cannot have host devices",
                                    "start inox with --enable-pci"));
}

/// A machine with such a device is not saved, so a state that names one is none of ours.
void Kind<VfioConfig>::state(State& state, VfioConfig& device) {
    state.text("id", device.open.id, most_text);
    state.check(false, "an assigned device of the host");
}

} // namespace inox
