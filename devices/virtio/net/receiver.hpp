// SPDX-License-Identifier: Apache-2.0
// The receiving half of one queue pair: frames go from the port straight into the driver's buffers.
//
//   readv:  [header] [buffer 0 after its header][buffer 1]...[buffer n] [overflow]
//
// Buffers are taken from the ring ahead of the frame that will fill them, because its length is not known before it is
// read. What does not fit them lands in the overflow and is copied into buffers taken afterwards.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/virtio/net/header.hpp"
#include "devices/virtio/net/port.hpp"
#include "devices/virtio/queue.hpp"

namespace inox::devices::virtio {

/// Everything here is called under a hold, on a refreshed queue, and always for the same queue until forget().
class NetReceiver {
public:
    enum class Outcome : std::uint8_t {
        delivered,
        dropped,    ///< too long, too short, or of a kind the driver did not agree to
        empty,      ///< no frame is waiting
        no_buffers, ///< the driver has to give buffers first
        gone,       ///< the port has lost its interface: error() says how
        broken,     ///< the ring or a buffer breaks the rules: reason()
    };

    /// For the next frames. `mtu`: of the frames that are common, to take no more buffers than needed.
    void configure(bool mergeable, std::uint64_t offloads, std::uint16_t mtu);
    /// The queue is gone; so is a frame that waited for buffers.
    void forget() noexcept;
    /// The buffers go back to the ring; a frame that waited for more of them is lost.
    void give_back(Queue& queue) noexcept;

    Outcome receive(Queue& queue, NetPort& port, unsigned pair) noexcept;
    /// Hands over a frame that did not come from the port. When the driver has no buffers it waits, and the next
    /// receive() or inject() is the time to deliver it; check has_waiting() before injecting another.
    Outcome inject(Queue& queue, std::span<const std::byte> frame) noexcept;
    [[nodiscard]] bool has_waiting() const { return waiting_; }

    [[nodiscard]] std::size_t frame_bytes() const { return frame_; } ///< of the last frame
    /// Of the buffers taken since the last call (Chain::work).
    [[nodiscard]] std::uint64_t take_work() { return std::exchange(work_, 0); }
    [[nodiscard]] int error() const { return error_; }
    [[nodiscard]] const char* reason() const { return reason_; }

private:
    struct Buffer {
        ChainHead head;
        std::uint32_t pieces;
        std::uint64_t bytes;
    };
    enum class Taken : std::uint8_t { one, none, full, broken };

    void follow_translations(Queue& queue) noexcept;
    Taken take_buffer(Queue& queue) noexcept;
    Taken take_ahead(Queue& queue) noexcept;
    ssize_t read(NetPort& port, unsigned pair) noexcept;
    Outcome deliver(Queue& queue) noexcept;
    void hand_over(Queue& queue, std::uint64_t bytes) noexcept;
    void copy_in(std::uint64_t offset, std::span<const std::byte> bytes) noexcept;
    [[nodiscard]] std::span<std::byte> overflow();

    bool mergeable_{false};
    std::uint64_t offloads_{0};
    std::uint64_t ahead_{0}; ///< bytes of buffers to have before reading

    std::vector<iovec> pieces_ = std::vector<iovec>(1); ///< the header's place, then the pieces of all buffers_
    std::vector<Buffer> buffers_{};                     ///< taken and not given back, oldest first
    std::uint64_t capacity_{0};                         ///< of all buffers_
    std::uint64_t generation_{0};                       ///< of the translations behind pieces_
    std::uint64_t work_{0};
    Chain chain_{};

    NetHeader header_{};
    std::size_t frame_{0};  ///< length of the frame in hand, without header
    std::size_t placed_{0}; ///< of it, bytes already in buffers; the rest is in the overflow
    bool waiting_{false};
    std::unique_ptr<std::byte[]> overflow_{}; // NOLINT: not touched, so not resident, unless needed
    int error_{0};
    const char* reason_{nullptr};
};

} // namespace inox::devices::virtio
