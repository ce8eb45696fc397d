// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock/flow.hpp"

#include <utility>

namespace inox::devices::virtio {
namespace {

constexpr std::uint32_t both = vsock_shutdown_receive | vsock_shutdown_send;

} // namespace

VsockFlow::VsockFlow(Origin origin, std::uint32_t buffer_size)
    : buffer_size_{buffer_size}, open_{origin == Origin::guest}, origin_{origin} {}

void VsockFlow::on_request(const VsockHeader& header) noexcept {
    peer_buffer_ = header.buffer_size;
    peer_forwarded_ = header.forwarded;
}

VsockFlow::Event VsockFlow::on_packet(const VsockHeader& header) noexcept {
    peer_buffer_ = header.buffer_size;
    peer_forwarded_ = header.forwarded;
    const auto operation = static_cast<VsockOp>(std::uint16_t{header.operation});
    if (operation == VsockOp::reset)
        return Event::ended;
    if (!open_) {
        open_ = operation == VsockOp::response && !tell_open_;
        return open_ ? Event::opened : Event::broken;
    }
    switch (operation) {
    case VsockOp::data:
        return on_data(header.length);
    case VsockOp::shutdown:
        return on_shutdown(header.flags);
    case VsockOp::credit_update:
        return Event::none;
    case VsockOp::credit_request:
        tell_credit_ = true;
        return Event::none;
    default:
        return Event::broken;
    }
}

VsockFlow::Event VsockFlow::on_data(std::uint32_t bytes) noexcept {
    const std::uint32_t held = received_ - forwarded_;
    if ((guest_shut_ & vsock_shutdown_send) != 0 || bytes > buffer_size_ - held)
        return Event::broken;
    received_ += bytes;
    return Event::data;
}

VsockFlow::Event VsockFlow::on_shutdown(std::uint32_t flags) noexcept {
    const std::uint32_t news = flags & both & ~guest_shut_;
    guest_shut_ |= news;
    if (guest_shut_ == both)
        return Event::guest_closed;
    return news == vsock_shutdown_send      ? Event::guest_sent_all
           : news == vsock_shutdown_receive ? Event::guest_reads_none
                                            : Event::none;
}

std::uint32_t VsockFlow::room() const noexcept {
    const std::uint32_t unread = sent_ - peer_forwarded_;
    // A guest that claims to have read more than was sent, or that shrinks its buffer, has no room.
    if (!open_ || !guest_reads() || unread > peer_buffer_)
        return 0;
    return peer_buffer_ - unread;
}

void VsockFlow::sent(std::uint32_t bytes) noexcept {
    sent_ += bytes;
    asked_credit_ = false;
}

/// A guest without room answers that it has none, so asking again after each answer would never end.
void VsockFlow::ask_credit() noexcept { asks_credit_ |= !std::exchange(asked_credit_, true); }

void VsockFlow::forwarded(std::uint32_t bytes) noexcept {
    forwarded_ += bytes;
    // Announced early enough that a guest that sends at full speed never finds the window closed.
    if (forwarded_ - announced_ >= buffer_size_ / 4)
        tell_credit_ = true;
}

void VsockFlow::host_shuts(std::uint32_t flags) noexcept {
    if ((flags & ~host_shut_) == 0)
        return;
    host_shut_ |= flags;
    tell_shutdown_ = true;
}

bool VsockFlow::has_control() const noexcept { return tell_open_ || tell_shutdown_ || tell_credit_ || asks_credit_; }

VsockOp VsockFlow::take_control(VsockHeader& header) noexcept {
    header.flags = 0;
    if (std::exchange(tell_open_, false))
        return origin_ == Origin::guest ? VsockOp::response : VsockOp::request;
    if (!open_)
        return VsockOp::invalid;
    if (std::exchange(tell_shutdown_, false)) {
        header.flags = host_shut_;
        return VsockOp::shutdown;
    }
    if (std::exchange(tell_credit_, false))
        return VsockOp::credit_update;
    if (std::exchange(asks_credit_, false))
        return VsockOp::credit_request;
    return VsockOp::invalid;
}

void VsockFlow::stamp(VsockHeader& header) noexcept {
    header.buffer_size = buffer_size_;
    header.forwarded = forwarded_;
    announced_ = forwarded_;
    tell_credit_ = false;
}

} // namespace inox::devices::virtio
