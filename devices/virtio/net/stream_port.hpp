// SPDX-License-Identifier: Apache-2.0
// A stream socket as a network device's port: before each frame stands its length, four bytes, big-endian. passt(1)
// serves this format.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "devices/virtio/net/header.hpp"
#include "devices/virtio/net/port.hpp"

namespace inox::devices::virtio {

/// Whom the stream leads to. Nothing it sends is trusted. On the loop's thread.
class StreamPeer {
public:
    StreamPeer() = default;
    StreamPeer(const StreamPeer&) = delete;
    StreamPeer& operator=(const StreamPeer&) = delete;
    virtual ~StreamPeer() = default;

    [[nodiscard]] virtual const std::string& name() const = 0; ///< for people
    /// A new connection, also after disconnect(). Does not wait.
    virtual Result<UniqueFd> connect() = 0;
    /// The connection is closed.
    virtual void disconnect() noexcept {}
    /// As NetPort::await. May replace the connection.
    virtual Result<void> await(UniqueFd& connection, const MacAddress& mac, std::chrono::milliseconds patience) {
        (void)connection, (void)mac, (void)patience;
        return {};
    }
    /// As NetPort::why_lost.
    [[nodiscard]] virtual std::string why_lost(int error);
    /// Whether it may get a frame. `head`: its first StreamPort::head_size bytes, fewer of a short frame.
    [[nodiscard]] virtual bool takes(std::span<const std::byte> head) const {
        (void)head;
        return true;
    }
    /// 0 when unknown.
    [[nodiscard]] virtual std::uint16_t mtu() const { return 0; }
};

/// A listening unix stream socket of somebody else's.
class SocketPeer final : public StreamPeer {
public:
    explicit SocketPeer(std::string path) : path_{std::move(path)}, name_{"the peer at '" + path_ + "'"} {}
    [[nodiscard]] const std::string& name() const override { return name_; }
    Result<UniqueFd> connect() override;
    /// The same error as connect(), as far as a look at the file tells.
    [[nodiscard]] Result<void> check() const;

private:
    [[nodiscard]] std::unexpected<Error> unreachable() const; ///< by errno
    std::string path_;
    std::string name_;
};

/// Holds at most one frame that the peer has not taken whole, and 128 KiB of what the peer sent. A length that no frame
/// has ends the connection.
class StreamPort final : public NetPort {
public:
    static constexpr std::size_t head_size = 54; ///< an Ethernet and an IPv6 header

    explicit StreamPort(std::unique_ptr<StreamPeer> peer) : peer_{std::move(peer)} {}
    ~StreamPort() override { close(); }

    [[nodiscard]] const std::string& name() const override { return peer_->name(); }
    /// One pair only.
    Result<void> open(unsigned pairs) override;
    void close() noexcept override;
    Result<void> await(const MacAddress& mac, std::chrono::milliseconds patience) override {
        return peer_->await(socket_, mac, patience);
    }
    [[nodiscard]] int fd(unsigned pair) const override { return pair == 0 ? socket_.get() : -1; }
    ssize_t read(unsigned pair, std::span<const iovec> pieces) noexcept override;
    ssize_t write(unsigned pair, std::span<const iovec> pieces) noexcept override;
    [[nodiscard]] bool has_more(unsigned /*pair*/) const override { return next_frame().has_value() || malformed(); }
    [[nodiscard]] int flush(unsigned pair) noexcept override;
    [[nodiscard]] std::string why_lost(int error) override;
    [[nodiscard]] std::uint64_t capabilities() const override { return 0; }
    void set_offloads(std::uint64_t /*offloads*/) noexcept override {}
    void set_active_pairs(unsigned /*pairs*/) noexcept override {}
    [[nodiscard]] std::uint16_t mtu() const override { return peer_->mtu(); }

private:
    static constexpr std::size_t prefix = 4;
    static constexpr std::size_t buffer_size = 128 * 1024;
    static_assert(buffer_size > prefix + max_frame);

    [[nodiscard]] std::span<const std::byte> unread() const { return {buffer_.get() + begin_, end_ - begin_}; }
    [[nodiscard]] std::optional<std::uint32_t> next_length() const; ///< once its four bytes are there
    [[nodiscard]] std::optional<std::span<const std::byte>> next_frame() const;
    [[nodiscard]] bool malformed() const;
    ssize_t fill() noexcept;
    void keep_unsent(std::span<const iovec> pieces, std::size_t sent) noexcept;

    std::unique_ptr<StreamPeer> peer_;
    UniqueFd socket_{};
    std::unique_ptr<std::byte[]> buffer_{}; // NOLINT: not touched, so not resident, unless needed
    std::size_t begin_{0};                  ///< of what was received and not read
    std::size_t end_{0};
    std::array<std::byte, prefix + head_size> head_{}; ///< what is checked is what is sent
    std::vector<iovec> pieces_{};
    std::vector<std::byte> unsent_{};
    std::size_t unsent_from_{0};
};

} // namespace inox::devices::virtio
