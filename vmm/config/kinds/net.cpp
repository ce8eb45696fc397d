// SPDX-License-Identifier: Apache-2.0
// Network interfaces: the keys, the option, the rules.
#include <arpa/inet.h>

#include <set>

#include "devices/virtio/net/passt.hpp"
#include "devices/virtio/net/tap.hpp"
#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

using devices::virtio::NetOptions;

constexpr unsigned least_user_mtu = 1280; // of IPv6

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

void read_forwards(const JsonValue& value, ConfigFile& file) {
    auto& forwards = net(file).forwards;
    std::vector<std::string> texts;
    if (value.form() == JsonValue::Form::words) {
        texts.push_back(value.text().value_or(""));
    } else if (!value.json().is_array()) {
        return value.report_type(JsonType::array);
    } else {
        for (std::size_t i = 0; i < value.json().size(); ++i)
            if (auto text = value.member(std::to_string(i), value.json()[i]).text())
                texts.push_back(std::move(*text));
    }
    for (const auto& text : texts) {
        auto forward = devices::virtio::PortForward::parse(text);
        if (!forward)
            return value.report(Errc::config_value, in_quotes(text) + " is none: " + forward.error().what,
                                forward.error().hint);
        forwards.push_back(std::move(*forward));
    }
}

void read_dns(const JsonValue& value, ConfigFile& file) {
    auto& dns = net(file).dns;
    read_plain_text(value, dns);
    in6_addr address{};
    if (!dns.empty() && ::inet_pton(AF_INET, dns.c_str(), &address) != 1 &&
        ::inet_pton(AF_INET6, dns.c_str(), &address) != 1)
        value.report(Errc::config_value, in_quotes(dns) + " is no IP address", "write an address such as 192.0.2.53");
}

/// Keys that take the tap's place.
constexpr std::string_view tapless[] = {"user", "socket"};

constexpr Field fields[] = {
    {"iface_id", Need::required_by_firecracker, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { net(file).id = read_id(value); }, "id"},
    {"host_dev_name", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_name(value, "the tap", net(file).tap); }, "tap", tapless},
    {"user", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { net(file).user = value.boolean().value_or(false); }},
    {"socket", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { read_socket_path(value, net(file).socket); }},
    {"host", Need::optional, Null::means_absent,
     [](const JsonValue& value, ConfigFile& file) { net(file).host = value.boolean().value_or(false); }},
    {"dns", Need::optional, Null::means_absent, read_dns},
    {"forward", Need::optional, Null::means_absent, read_forwards},
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

/// "user" alone is no name of a tap.
Result<void> add(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (text.substr(0, text.find(',')) == "user")
        return add_element(self, text, file);
    return add_named(self, "tap", text, file);
}

std::string place(std::size_t index, std::string_view key) {
    return "/network-interfaces/" + std::to_string(index) + "/" + std::string{key};
}

/// A tap, passt or a socket: one of them, and no key of another.
std::optional<Error> way_problem(const NetOptions& net, std::size_t index) {
    const auto refuse = [&](std::string_view key, std::string what, std::string hint) {
        return error_at(place(index, key), Errc::config_value, std::move(what), std::move(hint));
    };
    const int ways = int{!net.tap.empty()} + int{net.user} + int{!net.socket.empty()};
    if (ways == 0)
        return error_at("/network-interfaces/" + std::to_string(index), Errc::config_missing_key,
                        "the key 'host_dev_name' is missing", "name a tap, or set user or socket");
    if (ways > 1)
        return refuse(net.user ? "user" : "socket", "the interface has more than one way to the network",
                      "keep one of host_dev_name, user and socket");
    if (!net.tap.empty())
        if (auto tap = devices::virtio::Tap::create(net.tap); !tap)
            return refuse("host_dev_name", printable(tap.error().what, 200), tap.error().hint);
    if (!net.user && (net.host || !net.dns.empty() || !net.forwards.empty()))
        return refuse(net.host           ? "host"
                      : !net.dns.empty() ? "dns"
                                         : "forward",
                      "the key has a meaning for the user's network only", "add user (user=on), or leave it out");
    if (net.tap.empty() && ways == 1 && net.queue_pairs > 1)
        return refuse("queue_pairs", "an interface without a tap has one pair of queues", "leave out queue_pairs");
    if (net.user && net.mtu && (*net.mtu < least_user_mtu || *net.mtu > devices::virtio::Passt::default_mtu))
        return refuse("mtu", format("passt takes no MTU of %u", *net.mtu),
                      format("use %u to %u", least_user_mtu, devices::virtio::Passt::default_mtu));
    return std::nullopt;
}

/// passt listens at a port once, whatever the address; and interfaces share the host's ports.
std::optional<Error> forward_problem(std::span<const NetOptions* const> nets) {
    std::set<std::pair<bool, unsigned>> taken;
    for (std::size_t i = 0; i < nets.size(); ++i) {
        if (nets[i]->forwards.size() > NetOptions::max_forwards)
            return error_at(place(i, "forward"), Errc::config_value,
                            format("%zu forwards of one interface", nets[i]->forwards.size()),
                            format("use at most %zu", NetOptions::max_forwards));
        for (const auto& forward : nets[i]->forwards)
            if (!taken.emplace(forward.udp, forward.host).second)
                return error_at(place(i, "forward"), Errc::config_value,
                                format("port %u of the host is forwarded twice", unsigned{forward.host}),
                                "forward each port once");
    }
    return std::nullopt;
}

void check_ways(std::span<const NetOptions* const> nets, std::vector<Error>& problems) {
    for (std::size_t i = 0; i < nets.size(); ++i)
        if (auto problem = way_problem(*nets[i], i))
            problems.push_back(std::move(*problem));
    if (auto problem = forward_problem(nets))
        problems.push_back(std::move(*problem));
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
    return {"--net",
            "TAP[,mac=M]",
            "a network interface on this tap; user: the user's network, without root; more keys in docs/config.md",
            "/network-interfaces",
            add,
            true};
}

void Kind<NetOptions>::check(const Config& config, std::vector<Error>& problems) {
    const auto nets = devices_of<NetOptions>(config);
    check_unique(
        nets, "/network-interfaces", [](const auto& net) { return net.id; }, problems);
    auto taps = nets;
    std::erase_if(taps, [](const auto* net) { return net->tap.empty(); });
    check_unique(
        taps, "/network-interfaces", [](const auto& net) { return net.tap; }, problems);
    check_ways(nets, problems);
    check_addresses(nets, problems);
}

Result<void> add_forward(const CommandOption& self, const std::string& text, ConfigFile& file) {
    auto forward = devices::virtio::PortForward::parse(text);
    if (!forward)
        return refuse_option(self, in_quotes(text) + " is none: " + forward.error().what, forward.error().hint);
    NetOptions* user = nullptr;
    for (auto& device : file.config.devices)
        if (auto* net = std::get_if<NetOptions>(&device); net != nullptr && net->user)
            user = net;
    if (user == nullptr)
        return refuse_option(self, "no --net user stands before it", "write --net user --forward " + printable(text));
    user->forwards.push_back(std::move(*forward));
    return {};
}

void Kind<NetOptions>::state(State& state, NetOptions& net) {
    state.text("id", net.id, most_text);
    state.text("tap", net.tap, most_text);
    state.flag("user", net.user);
    state.text("socket", net.socket, most_text);
    state.flag("host", net.host);
    state.text("dns", net.dns, most_text);
    std::vector<std::string> forwards;
    for (const auto& forward : net.forwards)
        forwards.push_back(forward.text());
    state.list("forwards", forwards, NetOptions::max_forwards,
               [](State& inner, std::string& text) { inner.text("text", text, most_text); });
    std::vector<std::byte> mac;
    if (net.mac)
        mac.assign(std::as_bytes(std::span{net.mac->bytes}).begin(), std::as_bytes(std::span{net.mac->bytes}).end());
    state.bytes("mac", mac, sizeof net.mac->bytes);
    state.text("mac_seed", net.mac_seed, most_text);
    optional_field(state, "mtu", net.mtu);
    state.number("queue_pairs", net.queue_pairs, 1U, NetOptions::max_pairs);
    limits_state(state, "receive_limits", net.receive_limits);
    limits_state(state, "send_limits", net.send_limits);
    state.check(mac.empty() || mac.size() == sizeof net.mac->bytes, "a MAC address that is none");
    if (!state.restores() || !state.ok())
        return;
    net.forwards.clear();
    for (const auto& text : forwards) {
        auto forward = devices::virtio::PortForward::parse(text);
        state.check(forward.has_value(), "a forwarded port that is none");
        if (forward)
            net.forwards.push_back(std::move(*forward));
    }
    net.mac.reset();
    if (!mac.empty())
        std::ranges::transform(mac, net.mac.emplace().bytes.begin(),
                               [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
}

} // namespace inox
