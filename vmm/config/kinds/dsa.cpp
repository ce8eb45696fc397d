// SPDX-License-Identifier: Apache-2.0
// The accelerator: the keys, the option, the rules.
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"

namespace inox {
namespace {

DsaConfig& dsa(ConfigFile& file) { return being_read<DsaConfig>(file); }

constexpr Field fields[] = {
    {"queues", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         dsa(file).shape.queues = read_count(value, devices::dsa::max_queues, 1);
     }},
    {"entries", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         dsa(file).shape.entries = read_count(value, devices::dsa::max_entries, 1);
     }},
    {"engines", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) {
         dsa(file).shape.engines = read_count(value, devices::dsa::max_engines, 1);
     }},
    {"forward", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, dsa(file).forward); }},
};

/// A switch: it keeps what the configuration file says about the accelerator.
Result<void> add(const CommandOption& /*self*/, const std::string& /*text*/, ConfigFile& file) {
    if (device_of<DsaConfig>(file.config) == nullptr)
        put_device(file.config, DsaConfig{});
    return {};
}

} // namespace

std::span<const Section> Kind<DsaConfig>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .begin = begin_device<DsaConfig>}};
    return all;
}

CommandOption Kind<DsaConfig>::option() {
    return {"--dsa", nullptr, "a virtual data-streaming accelerator, with PASIDs and ENQCMD", "/dsa", add};
}

void Kind<DsaConfig>::check(const Config& config, std::vector<Error>& problems) {
    const auto* dsa = device_of<DsaConfig>(config);
    if (dsa == nullptr)
        return;
    if (config.machine.transport == Transport::mmio)
        problems.push_back(error_at("/dsa", Errc::config_value,
                                    "the accelerator is a PCI device, and this machine has no PCI",
                                    "add --enable-pci, or leave out the accelerator"));
    if (dsa->shape.entries < dsa->shape.queues)
        problems.push_back(error_at("/dsa/entries", Errc::config_value, "there are fewer entries than queues",
                                    "give each queue at least one entry"));
}

void Kind<DsaConfig>::state(State& state, DsaConfig& dsa) {
    state.text("id", dsa.id, most_text);
    state.number("queues", dsa.shape.queues, 1U, devices::dsa::max_queues);
    state.number("entries", dsa.shape.entries, 1U, devices::dsa::max_entries);
    state.number("engines", dsa.shape.engines, 1U, devices::dsa::max_engines);
    state.text("forward", dsa.forward, most_text);
}

} // namespace inox
