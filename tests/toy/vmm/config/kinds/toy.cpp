// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"

namespace inox {
namespace {

constexpr Field fields[] = {
    {"id", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { being_read<ToyConfig>(file).id = read_id(value); }},
    {"colour", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_text(value, being_read<ToyConfig>(file).colour); }},
};

} // namespace

std::span<const Section> Kind<ToyConfig>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .list = true, .begin = begin_device<ToyConfig>}};
    return all;
}

CommandOption Kind<ToyConfig>::option() { return {"--toy", "id=ID[,colour=C]", "a toy", "/toys", add_element, true}; }

void Kind<ToyConfig>::state(State& state, ToyConfig& toy) {
    state.text("id", toy.id, most_text);
    state.text("colour", toy.colour, most_text);
}

void Kind<ToyConfig>::check(const Config& config, std::vector<Error>& problems) {
    check_unique(
        devices_of<ToyConfig>(config), "/toys", [](const auto& toy) { return toy.id; }, problems);
}

} // namespace inox
