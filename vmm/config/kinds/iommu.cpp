// SPDX-License-Identifier: Apache-2.0
// The guest's IOMMU: the keys, the option, the rules.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"

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

void Kind<IommuConfig>::state(State& state, IommuConfig& iommu) {
    state.text("id", iommu.id, most_text);
    std::optional<std::uint8_t> bypass;
    if (iommu.bypass)
        bypass = *iommu.bypass ? 1 : 0;
    optional_field(state, "bypass", bypass);
    state.number("address_bits", iommu.limits.address_bits, 32U, 64U);
    state.number("max_domains", iommu.limits.domains, std::size_t{1}, std::size_t{65536});
    state.number("max_mappings", iommu.limits.mappings, std::size_t{1}, std::size_t{16777216});
    if (state.restores())
        iommu.bypass = bypass ? std::optional{*bypass != 0} : std::nullopt;
}

} // namespace inox
