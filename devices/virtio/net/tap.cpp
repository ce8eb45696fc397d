// SPDX-License-Identifier: Apache-2.0
// Host interface: Documentation/networking/tuntap.rst of the Linux kernel.
#include "devices/virtio/net/tap.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "devices/virtio/net/header.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::devices::virtio {
namespace {

constexpr const char* control_path = "/dev/net/tun";

ifreq request_for(const std::string& name) {
    ifreq request{};
    std::memcpy(request.ifr_name, name.data(), name.size()); // create() checked that it is shorter than IFNAMSIZ
    return request;
}

UniqueFd any_socket() { return UniqueFd{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)}; }

/// Whether a process holds a queue of the tap: exactly then a tap that is up has its link. The kernel itself refuses a
/// second user only for a tap with one queue.
bool in_use(const std::string& name) {
    const auto socket = any_socket();
    ethtool_value link{.cmd = ETHTOOL_GLINK, .data = 0};
    ifreq request = request_for(name);
    request.ifr_data = reinterpret_cast<char*>(&link);
    return socket && ::ioctl(socket.get(), SIOCETHTOOL, &request) == 0 && link.data != 0;
}

unsigned long tun_flags(std::uint64_t offloads) {
    if ((offloads & net_feature::guest_checksum) == 0)
        return 0; // there is no segmentation without checksums
    unsigned long flags = TUN_F_CSUM;
    flags |= (offloads & net_feature::guest_tso4) != 0 ? TUN_F_TSO4 : 0U;
    flags |= (offloads & net_feature::guest_tso6) != 0 ? TUN_F_TSO6 : 0U;
    flags |= (offloads & net_feature::guest_ufo) != 0 ? TUN_F_UFO : 0U;
    const bool segments = (flags & (TUN_F_TSO4 | TUN_F_TSO6)) != 0;
    flags |= segments && (offloads & net_feature::guest_ecn) != 0 ? TUN_F_TSO_ECN : 0U;
    return flags;
}

/// What the tap accepts, in both directions: it can always take what it can give.
constexpr std::uint64_t tso = net_feature::guest_tso4 | net_feature::guest_tso6 | net_feature::guest_ecn |
                              net_feature::host_tso4 | net_feature::host_tso6 | net_feature::host_ecn;
constexpr std::uint64_t ufo = net_feature::guest_ufo | net_feature::host_ufo;
constexpr std::uint64_t checksum = net_feature::checksum | net_feature::guest_checksum;

Result<UniqueFd> open_control() {
    UniqueFd fd{::open(control_path, O_RDWR | O_NONBLOCK | O_CLOEXEC)};
    if (!fd)
        return fail_errno(Errc::host_error, std::string{"cannot open "} + control_path,
                          errno == EACCES || errno == EPERM ? "run as a user who may open it, or give it to one"
                                                            : "load the tun module: modprobe tun");
    return fd;
}

std::uint64_t probe(int fd) {
    for (const std::uint64_t set : {checksum | tso | ufo, checksum | tso, checksum})
        if (::ioctl(fd, TUNSETOFFLOAD, tun_flags(set)) == 0)
            return set;
    return 0;
}

} // namespace

namespace {

/// What the kernel takes for a name (dev_valid_name in net/core/dev.c) without '%', of which it makes a number.
bool is_interface_name(std::string_view name) {
    static constexpr std::string_view refused{"/:% \t\n\v\f\r\xa0\0", 11};
    return !name.empty() && name.size() < IFNAMSIZ && name != "." && name != ".." &&
           name.find_first_of(refused) == std::string_view::npos;
}

} // namespace

Result<std::unique_ptr<Tap>> Tap::create(std::string name) {
    if (!is_interface_name(name))
        return fail(Errc::config_value, "'" + name + "' cannot be the name of a tap",
                    "give an interface name of 1 to 15 characters such as tap0");
    return std::unique_ptr<Tap>{new Tap{std::move(name)}};
}

Result<void> Tap::check(unsigned pairs) {
    if (::if_nametoindex(name_.c_str()) != 0) {
        const auto opened = open(pairs);
        close();
        return opened;
    }
    // A request without a type: the kernel checks whether we may make an interface, and then refuses to make this one.
    const auto made = ask(0);
    if (made || made.error().sys_errno == EINVAL)
        return {};
    return made.error().code == Errc::internal ? explain(made.error().sys_errno, false, pairs > 1)
                                               : std::unexpected{made.error()};
}

Result<void> Tap::open(unsigned pairs) {
    close();
    const bool exists = ::if_nametoindex(name_.c_str()) != 0;
    if (found_ && !exists)
        return fail(Errc::not_found, "tap '" + name_ + "' is gone");
    const bool taken = exists && in_use(name_);
    for (unsigned i = 0; i < pairs; ++i) {
        auto queue = open_queue(pairs > 1);
        if (!queue && queue.error().sys_errno == EINVAL && pairs == 1)
            queue = open_queue(true); // the tap has several queues, of which one is used
        if (!queue) {
            queues_.clear();
            return queue.error().code == Errc::internal ? explain(queue.error().sys_errno, exists, pairs > 1)
                                                        : std::unexpected{queue.error()};
        }
        if (taken)
            return explain(EBUSY, exists, pairs > 1);
        queues_.push_back(std::move(*queue));
    }
    active_ = pairs;
    if (auto done = set_up(queues_.front().get()); !done) {
        close();
        return done;
    }
    found_ = exists;
    if (!exists)
        bring_up();
    return {};
}

Result<UniqueFd> Tap::open_queue(bool several) const {
    return ask(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0));
}

Result<UniqueFd> Tap::ask(int flags) const {
    auto fd = outside::open_tap(name_, flags);
    if (fd)
        return fd;
    auto failed = fail_errno(Errc::internal, "cannot use tap '" + name_ + "'"); // the caller finds the words for it
    if (!outside::is_shut())
        TRY_VOID(open_control()); // it was this that failed
    return failed;
}

std::unexpected<Error> Tap::explain(int error, bool existed, bool several) const {
    std::string hint = "look at 'ip -d link show " + name_ + "'";
    Errc code = Errc::host_error;
    if (error == EBUSY) {
        code = Errc::already_exists;
        hint = "another process uses it; give this guest a tap of its own";
    } else if (error == EPERM && existed) {
        hint = "make it yours: ip tuntap add dev " + name_ + " mode tap user $USER" + (several ? " multi_queue" : "");
    } else if (error == EPERM) {
        code = Errc::not_found;
        hint = "it does not exist, and this user may not create it: ip tuntap add dev " + name_ +
               " mode tap user $USER" + (several ? " multi_queue" : "");
    } else if (error == EINVAL && several) {
        hint = "for several queue pairs make it with: ip tuntap add dev " + name_ + " mode tap multi_queue";
    } else if (error == EINVAL) {
        hint = "an interface of that name that is not a tap exists";
    } else if (error == E2BIG) {
        hint = "the host allows fewer queue pairs";
    }
    return std::unexpected{Error{code, "cannot use tap '" + name_ + "'", std::move(hint), {}, error}};
}

Result<void> Tap::set_up(int fd) {
    int header = sizeof(NetHeader);
    TRY_VOID(checked_ioctl(fd, TUNSETVNETHDRSZ, &header, "TUNSETVNETHDRSZ"));
    capabilities_ = probe(fd);
    TRY_VOID(checked_ioctl(fd, TUNSETOFFLOAD, std::uint64_t{0}, "TUNSETOFFLOAD"));
    return {};
}

void Tap::close() noexcept {
    queues_.clear();
    active_ = 0;
}

void Tap::set_offloads(std::uint64_t offloads) noexcept {
    if (queues_.empty())
        return;
    // This fails only when the tap is gone, which the next read reports.
    ::ioctl(queues_.front().get(), TUNSETOFFLOAD, tun_flags(offloads & capabilities_));
}

void Tap::set_active_pairs(unsigned pairs) noexcept {
    for (; active_ > pairs && active_ > 1; --active_) {
        ifreq request{};
        request.ifr_flags = IFF_DETACH_QUEUE;
        ::ioctl(queues_[active_ - 1].get(), TUNSETQUEUE, &request);
    }
    for (; active_ < pairs && active_ < queues_.size(); ++active_) {
        ifreq request{};
        request.ifr_flags = IFF_ATTACH_QUEUE;
        ::ioctl(queues_[active_].get(), TUNSETQUEUE, &request);
    }
}

std::uint16_t Tap::mtu() const {
    ifreq request = request_for(name_);
    const auto socket = any_socket();
    if (::ioctl(socket.get(), SIOCGIFMTU, &request) != 0 || request.ifr_mtu < 68 || request.ifr_mtu > 65535)
        return 0;
    return static_cast<std::uint16_t>(request.ifr_mtu);
}

void Tap::bring_up() const noexcept {
    log::write(log::Level::warning,
               "tap '%s' did not exist: inox creates it and removes it at the end; to keep one: ip tuntap add dev %s "
               "mode tap",
               name_.c_str(), name_.c_str());
    ifreq request = request_for(name_);
    const auto socket = any_socket();
    if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0)
        return;
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    ::ioctl(socket.get(), SIOCSIFFLAGS, &request);
}

} // namespace inox::devices::virtio
