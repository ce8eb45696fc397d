// SPDX-License-Identifier: Apache-2.0
// One stream connection between guest and host as a state machine: who may still send, how much, and what the guest has
// to be told (virtio 1.2, 5.10.6.3 to 5.10.6.5). Pure: sockets and rings are elsewhere.
#pragma once

#include <cstdint>

#include "devices/virtio/vsock/packet.hpp"

namespace inox::devices::virtio {

class VsockFlow {
public:
    enum class Origin : std::uint8_t { guest, host };
    /// What a packet of the guest asks for.
    enum class Event : std::uint8_t {
        none,
        opened,           ///< the guest accepted the host's request
        data,             ///< its payload is for the host; the guest had the credit for it
        guest_sent_all,   ///< no more data will come
        guest_reads_none, ///< no more data is wanted
        guest_closed,     ///< both: answer with a reset, then the connection is over
        ended,            ///< reset by the guest: over
        broken,           ///< the packet breaks the rules: reset
    };

    /// Opened by `origin`; the host side buffers up to `buffer_size` bytes.
    VsockFlow(Origin origin, std::uint32_t buffer_size);

    /// `header` was accepted by judge().
    Event on_packet(const VsockHeader& header) noexcept;
    /// The same for the request that a connection of the guest began with.
    void on_request(const VsockHeader& header) noexcept;

    // The host's side.

    /// Bytes that may be sent to the guest now.
    [[nodiscard]] std::uint32_t room() const noexcept;
    void sent(std::uint32_t bytes) noexcept;
    /// Bytes of the guest's data that left for the host program.
    void forwarded(std::uint32_t bytes) noexcept;
    /// The host program will not send, or not read, any more.
    void host_shuts(std::uint32_t flags) noexcept;
    /// The guest has no room: ask it, once, to tell how much it has.
    void ask_credit() noexcept;

    /// The next packet without data that the guest must get; invalid when there is none. Taken as sent.
    VsockOp take_control(VsockHeader& header) noexcept;
    [[nodiscard]] bool has_control() const noexcept;
    /// Credit fields of any packet of this connection; the guest then knows them.
    void stamp(VsockHeader& header) noexcept;

    [[nodiscard]] bool open() const { return open_; }
    [[nodiscard]] bool guest_reads() const { return (guest_shut_ & vsock_shutdown_receive) == 0; }

private:
    Event on_shutdown(std::uint32_t flags) noexcept;
    Event on_data(std::uint32_t bytes) noexcept;

    std::uint32_t buffer_size_;
    bool open_;                 ///< both ends agreed
    bool tell_open_{true};      ///< a request or response is due
    bool tell_shutdown_{false}; ///< host_shut_ is news to the guest
    bool tell_credit_{false};
    bool asks_credit_{false};
    bool asked_credit_{false}; ///< since something was last sent
    std::uint32_t guest_shut_{0};
    std::uint32_t host_shut_{0};
    Origin origin_;

    // All modulo 2^32, as on the wire.
    std::uint32_t received_{0};  ///< from the guest
    std::uint32_t forwarded_{0}; ///< of those, to the host program
    std::uint32_t announced_{0}; ///< of those, known to the guest
    std::uint32_t sent_{0};      ///< to the guest
    std::uint32_t peer_forwarded_{0};
    std::uint32_t peer_buffer_{0};
};

} // namespace inox::devices::virtio
