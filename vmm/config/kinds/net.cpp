// SPDX-License-Identifier: Apache-2.0
// Network interfaces: the keys, the option, the rules.
#include "devices/virtio/net/tap.hpp"
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

using devices::virtio::NetOptions;

NetOptions& net(ConfigFile& file) { return being_read<NetOptions>(file); }

void read_mac(const JsonValue& value, ConfigFile& file) {
    const auto text = value.text();
    if (!text)
        return;
    if (auto mac = devices::virtio::MacAddress::parse(*text))
        net(file).mac = *mac;
    else
        value.report(Errc::config_value, mac.error().what, mac.error().hint);
}

void read_mtu(const JsonValue& value, ConfigFile& file) {
    if (const auto mtu = value.number({68, 65535}, Errc::config_value))
        net(file).mtu = static_cast<unsigned>(*mtu);
}

constexpr Field fields[] = {
    {"iface_id", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { net(file).id = read_id(value); }, "id"},
    {"host_dev_name", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_name(value, "the tap", net(file).tap); }, "tap"},
    {"guest_mac", Need::optional, Null::means_absent, read_mac, "mac"},
    {"mtu", Need::optional, Null::means_absent, read_mtu},
    {"rx_rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_limits(value, net(file).receive_limits); }},
    {"tx_rate_limiter", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_limits(value, net(file).send_limits); }},
    {"queue_pairs", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) {
         net(file).queue_pairs = read_count(value, NetOptions::max_pairs, 1);
     },
     "queues"},
};

void begin(ConfigFile& file) {
    const auto number = devices_of<NetOptions>(file.config).size();
    begin_device<NetOptions>(file);
    net(file).id = "net" + std::to_string(number);
}

Result<void> add(const CommandOption& self, const std::string& text, ConfigFile& file) {
    return add_named(self, "tap", text, file);
}

void check_taps(std::span<const NetOptions* const> nets, std::vector<Error>& problems) {
    for (std::size_t i = 0; i < nets.size(); ++i)
        if (auto tap = devices::virtio::Tap::create(nets[i]->tap); !tap && !nets[i]->tap.empty()) {
            tap.error().what = printable(tap.error().what, 200);
            tap.error().where = "/network-interfaces/" + std::to_string(i) + "/host_dev_name";
            problems.push_back(std::move(tap).error());
        }
}

void check_addresses(std::span<const NetOptions* const> nets, std::vector<Error>& problems) {
    for (auto one = nets.begin(); one != nets.end(); ++one)
        if (const auto& mac = (*one)->mac;
            mac && std::any_of(nets.begin(), one, [&](const auto* other) { return other->mac == mac; }))
            problems.push_back(error_at("/network-interfaces", Errc::config_value,
                                        "two interfaces have the MAC address " + mac->text(),
                                        "give each interface its own", MacTaken{mac->text()}));
}

} // namespace

std::span<const Section> Kind<NetOptions>::sections() {
    static const Section all[] = {{.name = section, .fields = fields, .list = true, .begin = begin}};
    return all;
}

CommandOption Kind<NetOptions>::option() {
    return {
        "--net", "TAP[,mac=M]", "a network interface on this tap; more keys in docs/config.md", "/network-interfaces",
        add,     true};
}

void Kind<NetOptions>::check(const Config& config, std::vector<Error>& problems) {
    const auto nets = devices_of<NetOptions>(config);
    check_unique(
        nets, "/network-interfaces", [](const auto& net) { return net.id; }, problems);
    check_unique(
        nets, "/network-interfaces", [](const auto& net) { return net.tap; }, problems);
    check_taps(nets, problems);
    check_addresses(nets, problems);
}

} // namespace inox
