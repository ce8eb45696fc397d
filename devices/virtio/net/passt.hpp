// SPDX-License-Identifier: Apache-2.0
// A process of passt(1) for one interface: it turns the guest's connections into sockets of the host, without root.
//
// The guest's addresses are the same on every host: 10.0.2.15/24 behind 10.0.2.2, and fd69:6e6f:7800::15/64 behind
// fd69:6e6f:7800::2, by DHCP, DHCPv6 and router advertisements or set by hand.
#pragma once

#include "devices/virtio/net/options.hpp"
#include "devices/virtio/net/stream_port.hpp"
#include "vmm/base/child_process.hpp"

namespace inox::devices::virtio {

/// passt sees the connection's end and ends with it, also when inox is killed; it leaves no file behind. One that ends
/// by itself is started again, most_in_a_row times without a minute between.
class Passt final : public StreamPeer {
public:
    static constexpr unsigned default_mtu = 65520; ///< the longest that passt takes
    static constexpr unsigned most_in_a_row = 5;

    /// What a host needs for it.
    struct Host {
        std::string program{"passt"};              ///< a path, or what PATH has
        std::string uid_map{"/proc/self/uid_map"}; ///< of the user namespace
        std::string resolvers{"/etc/resolv.conf"};
        std::string real_resolvers{"/run/systemd/resolve/resolv.conf"}; ///< where that one names systemd-resolved
    };
    /// host_error when the program is missing.
    static Result<std::string> find(const std::string& program = "passt");

    explicit Passt(const NetOptions& options) : Passt{options, Host{}} {}
    Passt(const NetOptions& options, Host host);

    [[nodiscard]] const std::string& name() const override { return name_; }
    /// host_error also when a forward's port is in use.
    Result<UniqueFd> connect() override;
    void disconnect() noexcept override { child_.end(std::chrono::milliseconds{50}); }
    /// Asks who has the gateway's address, which passt answers once it serves. On a host without a way out it is
    /// started again with what is left to reach: forwards, and the host's loopback if that was asked for.
    Result<void> await(UniqueFd& connection, const MacAddress& mac, std::chrono::milliseconds patience) override;
    [[nodiscard]] std::string why_lost(int error) override;
    [[nodiscard]] bool takes(std::span<const std::byte> head) const override;
    [[nodiscard]] std::uint16_t mtu() const override { return static_cast<std::uint16_t>(mtu_); }

    /// The arguments, for tests.
    [[nodiscard]] std::vector<std::string> words(const std::string& program) const;

private:
    [[nodiscard]] std::vector<std::string> name_servers() const;
    [[nodiscard]] bool go_without_route(std::string_view complaint);
    [[nodiscard]] std::unexpected<Error> failed(const std::string& how);
    /// Where there is an outside::Door, the Door starts it.
    Result<void> start(std::vector<std::string> words, const UniqueFd& served);
    /// The lines it wrote since the last call that say what is wrong. At most what a pipe holds: the rest is lost, and
    /// passt never waits for a reader.
    [[nodiscard]] std::string complaint();

    Host host_;
    std::string name_;
    unsigned mtu_;
    bool host_loopback_;
    std::string dns_;
    std::vector<PortForward> forwards_;
    bool no_route_{false};
    ChildProcess child_{};
    UniqueFd errors_{}; ///< its standard error
    std::chrono::steady_clock::time_point started_{};
    unsigned in_a_row_{0}; ///< starts without an answer to the next
    bool rests_{false};    ///< it ended too often
};

} // namespace inox::devices::virtio
