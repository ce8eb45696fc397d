// SPDX-License-Identifier: Apache-2.0
// The guest's IOMMU: the keys, the option, the rules.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"

namespace inox {
namespace {

IommuConfig& iommu(ConfigFile& file) { return being_read<IommuConfig>(file); }

constexpr Field fields[] = {
    {"bypass", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { iommu(file).bypass = value.boolean(); }},
    {"address_bits", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         iommu(file).limits.address_bits = static_cast<unsigned>(read_limit(value, 32, 64));
     }},
    {"max_domains", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { iommu(file).limits.domains = read_limit(value, 1, 65536); }},
    {"max_mappings", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { iommu(file).limits.mappings = read_limit(value, 1, 16777216); }},
};

} // namespace

std::span<const Section> Kind<IommuConfig>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .begin = begin_device<IommuConfig>}};
    return all;
}

CommandOption Kind<IommuConfig>::option() {
    return {"--iommu", "[bypass=on]", "a virtio-iommu in front of all PCI devices; more keys in docs/config.md",
            "/iommu",  add_element,   false,
            true};
}

void Kind<IommuConfig>::check(const Config& config, std::vector<Error>& problems) {
    if (device_of<IommuConfig>(config) != nullptr && config.machine.transport != Transport::pci)
        problems.push_back(error_at("/iommu", Errc::config_value,
                                    "an IOMMU needs PCI, which this machine does not have",
                                    "start it with PCI (--enable-pci), or leave out the IOMMU"));
}

} // namespace inox
