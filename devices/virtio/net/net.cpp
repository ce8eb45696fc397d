// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net/net.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "devices/virtio/net/passt.hpp"
#include "devices/virtio/net/stream_port.hpp"
#include "devices/virtio/net/tap.hpp"
#include "devices/virtio/net/uapi.hpp"
#include "vmm/base/state.hpp"

namespace inox::devices::virtio {
namespace {

using log::Level;

constexpr std::uint16_t control_queue_size = 64;

// The host's calls that change a tap wait for all other users of its network. A guest gets enough calls at once for a
// start with every queue pair, and then a few a second.
constexpr BucketLimits port_changes{4 * NetOptions::max_pairs, 0, std::chrono::seconds{4}};

// A minute between lines about the link, after the first ones.
constexpr BucketLimits link_lines{10, 0, std::chrono::minutes{10}};

constexpr unsigned start_later = 63; // of later_: no queue has this number

struct NetConfig {
    MacAddress mac;
    Le16 status;
    Le16 pairs;
    Le16 mtu;
};
static_assert(sizeof(NetConfig) == 12 && offsetof(NetConfig, mtu) == offsetof(virtio_net_config, mtu));

Result<void> check(const NetOptions& options) {
    if (options.mtu && (*options.mtu < 68 || *options.mtu > 65535))
        return fail(Errc::config_value, format("an MTU of %u is outside 68 to 65535", *options.mtu));
    if (options.queue_pairs < 1 || options.queue_pairs > NetOptions::max_pairs)
        return fail(Errc::config_value,
                    format("%u queue pairs are outside 1 to %u", options.queue_pairs, NetOptions::max_pairs));
    return {};
}

Result<std::unique_ptr<NetPort>> port_for(const NetOptions& options) {
    if (options.user)
        return std::make_unique<StreamPort>(std::make_unique<Passt>(options));
    if (!options.socket.empty())
        return std::make_unique<StreamPort>(std::make_unique<SocketPeer>(options.socket));
    return TRY(Tap::create(options.tap));
}

} // namespace

Result<std::shared_ptr<Net>> Net::create(const NetOptions& options, EventLoop& loop, std::shared_ptr<NetFilter> filter,
                                         std::chrono::milliseconds patience) {
    TRY_VOID(check(options));
    return create(options, loop, TRY(port_for(options)), std::move(filter), patience);
}

Result<std::shared_ptr<Net>> Net::create(const NetOptions& options, EventLoop& loop, std::unique_ptr<NetPort> port,
                                         std::shared_ptr<NetFilter> filter, std::chrono::milliseconds patience) {
    TRY_VOID(check(options));
    std::shared_ptr<Net> net{new Net{options, loop, std::move(port), std::move(filter)}};
    TRY_VOID(net->open(options, patience));
    return net;
}

Net::Net(const NetOptions& options, EventLoop& loop, std::unique_ptr<NetPort> port, std::shared_ptr<NetFilter> filter)
    : Device{options.id + " (virtio-net)"}, loop_{loop}, port_{std::move(port)}, filter_{std::move(filter)},
      mac_{options.mac.value_or(MacAddress::derived(
          options.mac_seed.empty() ? options.id + "/" + options.tap + options.socket : options.mac_seed))},
      retry_delay_{options.retry}, receive_limiter_{options.receive_limits, RateLimiter::Time::clock::now()},
      send_limiter_{options.send_limits, RateLimiter::Time::clock::now()}, pairs_{options.queue_pairs},
      changes_{port_changes, RateLimiter::Time::clock::now()}, link_lines_{link_lines,
                                                                           RateLimiter::Time::clock::now()} {}

Result<void> Net::open(const NetOptions& options, std::chrono::milliseconds patience) {
    const auto pairs = static_cast<unsigned>(pairs_.size());
    TRY_VOID(port_->open(pairs));
    TRY_VOID(port_->await(mac_, patience));
    on_port_open();
    mtu_ = static_cast<std::uint16_t>(options.mtu.value_or(port_->mtu()));
    features_ = port_->capabilities() | net_feature::mac | net_feature::status | net_feature::mergeable |
                net_feature::control | net_feature::guest_offloads | net_feature::announce |
                (mtu_ != 0 ? net_feature::mtu : 0) | (pairs > 1 ? net_feature::queue_pairs : 0);
    queue_sizes_.assign(2 * pairs, queue_size);
    queue_sizes_.push_back(control_queue_size);
    if (filter_) {
        frame_.resize(max_frame);
        filter_->connect([weak = weak_from_this()] {
            if (const auto self = weak.lock())
                self->filter_ready();
        });
    }
    return {};
}

void Net::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    const NetConfig config{
        mac_,
        static_cast<std::uint16_t>((link_up_ ? VIRTIO_NET_S_LINK_UP : 0) | (announces_ ? VIRTIO_NET_S_ANNOUNCE : 0)),
        static_cast<std::uint16_t>(pairs_.size()), mtu_};
    const auto bytes = std::as_bytes(std::span{&config, 1});
    std::ranges::fill(data, std::byte{0});
    if (offset < bytes.size())
        std::memcpy(data.data(), bytes.data() + offset, std::min<std::size_t>(data.size(), bytes.size() - offset));
}

/// Runs on a vCPU's thread, but the port belongs to the loop.
void Net::on_activate() noexcept {
    later_.post(loop_, start_later, weak_from_this(), [](Net& net) { net.locked([&] { net.start(); }); });
}

void Net::start() noexcept {
    if (started_ || stopped() ||
        change_port(1, negotiated(net_feature::guest_checksum) ? negotiated_features() & net_feature::offloads : 0) ==
            Done::later)
        return;
    started_ = true;
    uncharged_.reset();
    for (unsigned i = 0; i < pairs_.size() * 2 + 1; ++i)
        again(i); // the driver may have notified before the device was ready
    if (port_->fd(0) < 0)
        look_for_port_later();
}

void Net::on_reset() noexcept {
    // Watches of the loop that remain find the device inactive and end.
    started_ = false;
    announces_ = false;
    for (Pair& pair : pairs_)
        pair.receiver.forget();
}

void Net::on_reset_queue(unsigned index) noexcept {
    if (index / 2 < pairs_.size() && index % 2 == 0 && index != control_queue())
        pairs_[index / 2].receiver.forget();
}

/// The MTU is what the driver was told; the address is the configuration's.
void Net::on_state(State& state) {
    const std::uint64_t allowed = negotiated_features() & net_feature::offloads;
    unsigned active_pairs = started_ ? active_pairs_ : 1;
    std::uint64_t offloads = started_ ? offloads_ : 0;
    state.version(1);
    state.number("mtu", mtu_);
    state.check(mtu_ == 0 || mtu_ >= 68, "an MTU that is too small");
    state.flag("started", started_);
    state.number("active_pairs", active_pairs, 1U, static_cast<unsigned>(pairs_.size()));
    state.number("offloads", offloads);
    state.check((offloads & ~allowed) == 0, "offloads that the driver did not agree to");
    state.check(!started_ || active(), "it works for no driver");
    state.part("receive_limits",
               [this](State& part) { receive_limiter_.state(part, RateLimiter::Time::clock::now()); });
    state.part("send_limits", [this](State& part) { send_limiter_.state(part, RateLimiter::Time::clock::now()); });
    if (!state.restores() || !state.ok())
        return;
    active_pairs_ = active_pairs;
    offloads_ = offloads;
}

/// A frame that is on its way to a stream goes on.
bool Net::on_drain() noexcept {
    for (unsigned i = 0; i < pairs_.size(); ++i) {
        pairs_[i].readable.reset();
        pairs_[i].limited.reset();
        if (Queue* ring = queue(2 * i))
            pairs_[i].receiver.give_back(*ring);
    }
    return true;
}

/// The port may be another one, and its link another. A network that the card has moved in must hear of it (5.1.5.1).
void Net::on_resume() noexcept {
    if (restored() && negotiated(net_feature::announce))
        announces_ = true;
    if (!started_)
        return start();
    tell_port();
    configure_receivers();
    if (port_->fd(0) < 0)
        look_for_port_later();
    config_changed();
}

/// 5.1.2: the control queue comes after the pairs that exist for this driver.
unsigned Net::control_queue() const {
    return negotiated(net_feature::queue_pairs) ? static_cast<unsigned>(2 * pairs_.size()) : 2;
}

void Net::on_kick(unsigned index) noexcept {
    if (!started_)
        return;
    if (index == control_queue())
        control(index);
    else if (index / 2 >= active_pairs_)
        return;
    else if (index % 2 == 0)
        receive(index / 2);
    else
        transmit(index / 2);
}

void Net::again(unsigned index) noexcept {
    later_.post(loop_, index, weak_from_this(), [index](Net& net) { net.kick(index); });
}

/// Applies what the driver asks for. Only changes reach the port, and a guest that keeps changing its mind must wait.
Net::Done Net::change_port(unsigned pairs, std::uint64_t offloads) noexcept {
    const unsigned calls = (told_offloads_ != offloads ? 1 : 0) + std::max(told_pairs_, pairs) -
                           std::min(told_pairs_, pairs); // each pair is a call
    const auto wait = changes_.wait(calls, RateLimiter::Time::clock::now());
    if (calls != 0 && wait.count() != 0) {
        change_later_ = loop_.after(wait, [this] { locked([&] { started_ ? again(control_queue()) : start(); }); });
        return Done::later;
    }
    changes_.spend(calls);
    const bool more = pairs != active_pairs_;
    active_pairs_ = pairs;
    offloads_ = offloads;
    tell_port();
    configure_receivers();
    for (unsigned i = 0; more && i < 2 * pairs; ++i)
        again(i);
    return Done::yes;
}

void Net::configure_receivers() noexcept {
    for (Pair& pair : pairs_)
        pair.receiver.configure(negotiated(net_feature::mergeable), offloads_, mtu_);
}

void Net::tell_port() noexcept {
    if (std::exchange(told_offloads_, offloads_) != offloads_)
        port_->set_offloads(offloads_);
    if (std::exchange(told_pairs_, active_pairs_) != active_pairs_)
        port_->set_active_pairs(active_pairs_);
}

void Net::on_port_open() noexcept {
    told_offloads_ = 0;
    told_pairs_ = static_cast<unsigned>(pairs_.size());
    tell_port();
}

void Net::update_limits(const RateLimits& receive, const RateLimits& send) noexcept {
    const auto now = RateLimiter::Time::clock::now();
    receive_limiter_.update(receive, now);
    send_limiter_.update(send, now);
    for (unsigned i = 0; i < 2 * pairs_.size(); ++i)
        again(i); // pairs that wait for the old limit try again
}

void Net::filter_ready() noexcept { kick(0); }

void Net::lose_port(int error) noexcept {
    if (port_->fd(0) < 0)
        return;
    traffic_.losses.fetch_add(1, std::memory_order_relaxed);
    log_link(port_->name() + " is gone (" + port_->why_lost(error) + "); the link is down until it comes back");
    for (unsigned i = 0; i < pairs_.size(); ++i) {
        pairs_[i].readable.reset();
        pairs_[i].writable.reset(); // its watch would hold the other side's end open
        again(2 * i + 1);           // what waited is dropped now
    }
    port_->close();
    link_up_ = false;
    config_changed();
    look_for_port_later();
}

void Net::log_link(const std::string& text) noexcept {
    const auto now = RateLimiter::Time::clock::now();
    if (link_lines_.wait(1, now).count() != 0)
        return;
    link_lines_.spend(1);
    log::write(Level::warning, "%s: %s", name().c_str(), text.c_str());
}

void Net::look_for_port_later() noexcept {
    retry_ = loop_.after(retry_delay_, [this] { look_for_port(); });
}

/// Opening may wait for other users of the host's network, so it runs without the lock, for which a vCPU could wait.
void Net::look_for_port() noexcept {
    const bool found = port_->open(static_cast<unsigned>(pairs_.size())).has_value();
    with_lock([&](bool active) {
        if (!found) {
            if (active)
                look_for_port_later();
            return;
        }
        link_up_ = true;
        on_port_open();
        if (!active)
            return;
        log_link(port_->name() + " is back; the link is up");
        for (unsigned i = 0; i < 2 * active_pairs_; ++i)
            again(i);
        config_changed();
    });
}

} // namespace inox::devices::virtio
