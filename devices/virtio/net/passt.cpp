// SPDX-License-Identifier: Apache-2.0
// passt's side: passt(1) of 2023 and later.
#include "devices/virtio/net/passt.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <netinet/in.h>
#include <poll.h>
#include <sstream>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/net/loopback.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/plain_text.hpp"

namespace inox::devices::virtio {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr const char* guest4 = "10.0.2.15";
constexpr const char* gateway4 = "10.0.2.2";
constexpr const char* guest6 = "fd69:6e6f:7800::15";
constexpr const char* gateway6 = "fd69:6e6f:7800::2";
constexpr const char* gateway_mac = "9a:55:9a:55:9a:55";
constexpr const char* no_way_out = "External interface not usable"; // passt's words
constexpr std::size_t longest_complaint = 400;
constexpr const char* another_port =
    "forward another port of the host: this one is in use, or below 1024 and not for this user";

template <std::size_t n> void append(std::vector<std::byte>& frame, const std::array<std::uint8_t, n>& bytes) {
    for (const auto byte : bytes)
        frame.push_back(std::byte{byte});
}

void append(std::vector<std::byte>& frame, int family, const char* address) {
    std::array<std::uint8_t, 16> bytes{};
    ::inet_pton(family, address, bytes.data());
    for (std::size_t i = 0; i < (family == AF_INET ? 4U : 16U); ++i)
        frame.push_back(std::byte{bytes[i]});
}

/// Lets a frame begin: its length in the stream, everybody as receiver, `mac` as sender.
std::vector<std::byte> begin_frame(const MacAddress& mac, std::uint8_t length, std::uint16_t type) {
    std::vector<std::byte> frame;
    append<4>(frame, {0, 0, 0, length});
    append<6>(frame, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
    append(frame, mac.bytes);
    append<2>(frame, {static_cast<std::uint8_t>(type >> 8), static_cast<std::uint8_t>(type)});
    return frame;
}

/// RFC 826: who has the gateway's address?
std::vector<std::byte> arp_request(const MacAddress& mac) {
    auto frame = begin_frame(mac, 42, 0x0806);
    append<8>(frame, {0, 1, 8, 0, 6, 4, 0, 1});
    append(frame, mac.bytes);
    append(frame, AF_INET, guest4);
    append<6>(frame, {});
    append(frame, AF_INET, gateway4);
    return frame;
}

/// RFC 4861, 4.3: the same for IPv6.
std::vector<std::byte> neighbour_solicitation(const MacAddress& mac) {
    auto frame = begin_frame(mac, 14 + 40 + 24, 0x86dd);
    append<8>(frame, {0x60, 0, 0, 0, 0, 24, 58, 255});
    append(frame, AF_INET6, guest6);
    append(frame, AF_INET6, gateway6);
    const std::size_t message = frame.size();
    append<8>(frame, {135, 0, 0, 0, 0, 0, 0, 0});
    append(frame, AF_INET6, gateway6);
    std::uint32_t sum = 58 + 24; // RFC 4443, 2.3
    for (std::size_t i = message - 32; i < frame.size(); i += 2)
        sum += std::to_integer<std::uint32_t>(frame[i]) << 8 | std::to_integer<std::uint32_t>(frame[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16));
    frame[message + 2] = static_cast<std::byte>(sum >> 8);
    frame[message + 3] = static_cast<std::byte>(sum);
    return frame;
}

/// Whether root may become another user: not in a user namespace that knows one user only, where passt stays what it
/// is.
bool is_root_of_all(const std::string& uid_map) {
    std::ifstream file{uid_map};
    std::uint64_t inside = 1;
    std::uint64_t outside = 1;
    std::uint64_t count = 0;
    return ::geteuid() == 0 && (file >> inside >> outside >> count) && inside == 0 && outside == 0 &&
           count == 0xffffffff;
}

std::vector<std::string> name_servers_of(const std::string& path) {
    std::vector<std::string> servers;
    std::ifstream file{path};
    for (std::string line; std::getline(file, line) && servers.size() < 3;) {
        std::istringstream words{line};
        std::string key;
        std::string address;
        if (words >> key >> address && key == "nameserver")
            servers.push_back(std::move(address));
    }
    return servers;
}

template <class Address> std::string_view bytes_of(const Address& address) {
    return {reinterpret_cast<const char*>(&address),
            sizeof address}; // NOLINT(*-reinterpret-cast): they are only copied
}

/// Whether passt could bind a forward's port now, with the option it uses. passt itself may tell only once its device
/// is shown.
Result<void> check_port(const PortForward& forward) {
    sockaddr_in four{.sin_family = AF_INET, .sin_port = htons(forward.host), .sin_addr = {}, .sin_zero = {}};
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = four.sin_port;
    const bool is_four = ::inet_pton(AF_INET, forward.address.c_str(), &four.sin_addr) == 1;
    if (!is_four)
        ::inet_pton(AF_INET6, forward.address.c_str(), &six.sin6_addr);
    if (outside::can_bind(forward.udp ? SOCK_DGRAM : SOCK_STREAM, is_four ? bytes_of(four) : bytes_of(six)))
        return {};
    return fail_errno(Errc::host_error, "cannot forward " + forward.text(),
                      errno == EADDRNOTAVAIL ? "forward an address that this host has" : another_port);
}

bool is_loopback(const std::string& address) { return address.starts_with("127.") || address == "::1"; }

} // namespace

Result<std::string> Passt::find(const std::string& program) {
    auto path = find_program(program);
    if (path.empty())
        return fail(Errc::host_error, "passt, which connects a guest to the user's network, is not installed",
                    "apt install passt (Debian 12, Ubuntu 23.04 and later)");
    return path;
}

Passt::Passt(const NetOptions& options, Host host)
    : host_{std::move(host)}, name_{"passt"}, mtu_{options.mtu.value_or(default_mtu)},
      host_loopback_{options.host}, dns_{options.dns}, forwards_{options.forwards} {}

std::vector<std::string> Passt::name_servers() const {
    if (!dns_.empty())
        return {dns_};
    auto servers = name_servers_of(host_.resolvers);
    if (host_loopback_ || servers.empty() || !std::ranges::all_of(servers, is_loopback))
        return {}; // passt finds them by itself, and makes the host's loopback the gateway's address
    servers = name_servers_of(host_.real_resolvers);
    std::erase_if(servers, is_loopback);
    if (servers.empty())
        log::write(log::Level::warning,
                   "the host's name server is at its loopback, out of the guest's reach: dns=ADDRESS "
                   "names another, host=on lets the guest reach it");
    return servers;
}

std::vector<std::string> Passt::words(const std::string& program) const {
    std::vector<std::string> all{
        program,      "--foreground", "--fd",      "3",    "--quiet",   "--stderr", "--mtu",     std::to_string(mtu_),
        "--mac-addr", gateway_mac,    "--address", guest4, "--netmask", "24",       "--gateway", gateway4};
    const auto add = [&](std::initializer_list<std::string> words) { all.insert(all.end(), words); };
    if (no_route_)
        add({"--interface", "lo", "--ipv4-only"});
    else
        add({"--address", guest6, "--gateway", gateway6});
    if (!host_loopback_)
        add({"--no-map-gw"});
    for (const auto& server : name_servers())
        add({"--dns", server});
    for (const bool udp : {false, true}) {
        const char* option = udp ? "--udp-ports" : "--tcp-ports";
        bool any = false;
        for (const auto& forward : forwards_)
            if (forward.udp == udp && (any = true))
                add({option,
                     format("%s/%u:%u", forward.address.c_str(), unsigned{forward.host}, unsigned{forward.guest})});
        if (!any)
            add({option, "none"});
    }
    if (is_root_of_all(host_.uid_map))
        add({"--runas", "65534:65534"}); // nobody, also where no file names users
    return all;
}

Result<UniqueFd> Passt::connect() {
    const auto now = Clock::now();
    if (now - started_ >= 60s)
        in_a_row_ = 0;
    if (in_a_row_ > most_in_a_row) {
        if (!std::exchange(rests_, true))
            log::write(log::Level::error, "passt ended %u times in a row: inox starts it again in a minute",
                       most_in_a_row);
        return fail(Errc::host_error, "passt ended too often");
    }
    rests_ = false;
    const auto program = TRY(find(host_.program));
    for (const auto& forward : forwards_)
        TRY_VOID(check_port(forward));
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fail_errno(Errc::host_error, "cannot make a pair of sockets");
    UniqueFd near{ends[0]};
    const UniqueFd far{ends[1]};
    TRY_VOID(start(words(program), far));
    started_ = now;
    ++in_a_row_;
    return near;
}

Result<void> Passt::start(std::vector<std::string> words, const UniqueFd& served) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0)
        return fail_errno(Errc::host_error, "cannot make a pipe");
    errors_ = UniqueFd{pipe[0]};
    const UniqueFd far{pipe[1]};
    if (auto* const door = outside::door()) {
        auto helper = door->start_passt(words, served.get(), far.get());
        if (!helper)
            return fail_errno(Errc::host_error, "cannot start " + words.front());
        child_ = ChildProcess{std::move(helper->process), helper->number};
        return {};
    }
    child_ = TRY(ChildProcess::start(
        {.path = words.front(), .words = std::move(words), .descriptors = {served.get()}, .errors = far.get()}));
    return {};
}

Result<void> Passt::await(UniqueFd& connection, const MacAddress& mac, std::chrono::milliseconds patience) {
    const auto until = Clock::now() + patience;
    for (const auto& question : {arp_request(mac), neighbour_solicitation(mac)})
        (void)!::send(connection.get(), question.data(), question.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    // Nothing is read here: answers may come in pieces, and the guest ignores them.
    pollfd answer{.fd = connection.get(), .events = POLLIN, .revents = 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(patience);
    (void)::poll(&answer, 1, static_cast<int>(left.count()));
    std::byte first{};
    if ((answer.revents & POLLIN) != 0 && ::recv(connection.get(), &first, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
        in_a_row_ = 0;
        return {};
    }
    const auto how = child_.ended(answer.revents != 0 ? std::min(patience, 100ms) : 0ms);
    if (!how)
        return {}; // on a busy host it may still be on its way
    const auto text = complaint();
    if (!go_without_route(text))
        return failed(*how + (text.empty() ? "" : ": " + text));
    connection = TRY(connect());
    return await(connection, mac,
                 std::max(std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()), 0ms));
}

/// Whether the next start is another one because of what passt says.
bool Passt::go_without_route(std::string_view complaint) {
    if (no_route_ || !complaint.contains(no_way_out))
        return false;
    no_route_ = true;
    in_a_row_ = 0;
    log::write(log::Level::warning, "this host has no default route: the guest has IPv4 only, and reaches %s",
               host_loopback_ ? "the host's loopback at 10.0.2.2 only" : "nothing but what connects to its forwards");
    return true;
}

std::unexpected<Error> Passt::failed(const std::string& how) {
    return fail(Errc::host_error, "passt, which connects the guest to the user's network, " + how,
                how.contains("Failed to bind")
                    ? another_port
                    : "passt(1) explains its options and messages; --net TAP needs no passt");
}

std::string Passt::complaint() {
    std::string text;
    std::string written(64UL * 1024, '\0');
    const auto got = errors_ ? ::read(errors_.get(), written.data(), written.size()) : 0;
    written.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    std::istringstream lines{std::move(written)};
    for (std::string line; std::getline(lines, line);)
        if (!line.empty() && !line.starts_with("Failed to send ") && !line.starts_with("Don't run as root"))
            text += (text.empty() ? "" : "; ") + line;
    if (text.size() > longest_complaint)
        text = "..." + text.substr(text.size() - longest_complaint);
    make_plain(text);
    return text;
}

std::string Passt::why_lost(int error) {
    const auto how = child_.ended(20ms);
    if (!how)
        return StreamPeer::why_lost(error);
    const auto text = complaint();
    (void)go_without_route(text);
    return *how + (text.empty() ? "" : ": " + text);
}

bool Passt::takes(std::span<const std::byte> head) const { return !names_loopback(head); }

} // namespace inox::devices::virtio
