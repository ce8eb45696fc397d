// SPDX-License-Identifier: Apache-2.0
// A guest's socket driver and a host's programs around one socket device.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "devices/virtio/vsock/vsock.hpp"
#include "tests/fakes/run_loop.hpp"
#include "tests/fakes/virtio_driver.hpp"

namespace inox::fakes {

/// A folder that goes with its owner.
struct TemporaryFolder {
    TemporaryFolder() { (void)!::mkdtemp(path.data()); }
    ~TemporaryFolder() { std::filesystem::remove_all(path); }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::string path{"/tmp/inox-test-XXXXXX"};
};

/// One end of a unix stream, for a program on the host.
class HostStream {
public:
    explicit HostStream(UniqueFd fd) : fd_{std::move(fd)} {}
    bool send(std::string_view text) {
        return ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
               static_cast<ssize_t>(text.size());
    }
    /// What is there now; "" also at the end of the stream.
    std::string take(std::size_t limit = 1 << 20) {
        std::string out(limit, '\0');
        const auto got = ::recv(fd_.get(), out.data(), out.size(), MSG_DONTWAIT);
        ended_ = got == 0;
        out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
        return out;
    }
    /// Whether the stream has ended, with nothing left to read.
    bool ended() { return take().empty() && ended_; }
    void shut(int how) { ::shutdown(fd_.get(), how); }
    void close() { fd_.reset(); }
    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    UniqueFd fd_;
    bool ended_{false};
};

/// A program that listens at a path.
class HostListener {
public:
    explicit HostListener(const std::string& path) : listener_{*devices::virtio::VsockListener::create(path)} {}
    std::optional<HostStream> accept() {
        auto fd = listener_.accept();
        return fd ? std::optional<HostStream>{std::move(fd)} : std::nullopt;
    }

private:
    devices::virtio::VsockListener listener_;
};

class VsockGuest {
public:
    using Op = devices::virtio::VsockOp;
    using Ports = devices::virtio::VsockPorts;
    struct Packet {
        devices::virtio::VsockHeader header{};
        std::string payload{};
        [[nodiscard]] Op op() const { return static_cast<Op>(std::uint16_t{header.operation}); }
    };
    static constexpr std::uint64_t cid = 7;
    static constexpr std::uint32_t buffer_size = 4096 + sizeof(devices::virtio::VsockHeader);

    explicit VsockGuest(devices::virtio::VsockOptions options = {}, unsigned buffers = 128) {
        options.guest_cid = cid;
        options.uds_path = folder.path + "/v.sock";
        device = *devices::virtio::Vsock::create(options, loop);
        start(buffers);
    }
    ~VsockGuest() { device->reset(); }

    void start(unsigned buffers = 128) {
        driver.activate(*device, 0);
        buffers_.clear();
        taken_ = 0;
        read = 0;
        pool_ = driver.ram.allocate(128 * 1024);
        give(buffers);
        turn(loop);
    }
    /// Receive buffers.
    void give(unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            buffers_.push_back(driver.ram.allocate(buffer_size));
            driver[0].chain().raw({buffers_.back(), buffer_size, true}).post();
        }
        device->kick(0);
    }
    /// A packet to the device; credit fields as a guest that buffers 256 KiB and has read all.
    void send(Op op, Ports ports, std::string_view payload = {}, std::uint32_t flags = 0) {
        devices::virtio::VsockHeader header = head(op, ports);
        header.length = static_cast<std::uint32_t>(payload.size());
        header.flags = flags;
        send(header, payload);
    }
    void send(const devices::virtio::VsockHeader& header, std::string_view payload = {}) {
        (void)driver.ram.memory.write(Gpa{pool_}, std::as_bytes(std::span{&header, 1}));
        (void)driver.ram.memory.write(Gpa{pool_ + sizeof header}, std::as_bytes(std::span{payload}));
        auto chain = driver[1].chain();
        chain.raw({pool_, static_cast<std::uint32_t>(sizeof header + payload.size()), false}).post();
        device->kick(1);
        while (driver[1].used()) {
        }
    }
    devices::virtio::VsockHeader head(Op op, Ports ports) const {
        devices::virtio::VsockHeader header;
        header.source_cid = cid;
        header.destination_cid = devices::virtio::vsock_host_cid;
        header.source_port = ports.guest;
        header.destination_port = ports.host;
        header.type = devices::virtio::vsock_stream;
        header.operation = static_cast<std::uint16_t>(op);
        header.buffer_size = buffer;
        header.forwarded = read;
        return header;
    }
    /// The next packet from the device that is there already. Its buffer goes back to the ring.
    std::optional<Packet> look(bool give_back = true) {
        const auto used = driver[0].used();
        if (!used)
            return std::nullopt;
        const auto at = buffers_.at(taken_++);
        Packet packet{driver.ram.get<devices::virtio::VsockHeader>(at),
                      driver.ram.text(at + sizeof packet.header, used->length - sizeof packet.header)};
        if (packet.op() == Op::data)
            read += packet.header.length;
        if (give_back) {
            buffers_.push_back(at);
            driver[0].chain().raw({at, buffer_size, true}).post();
            device->kick(0);
        }
        return packet;
    }
    /// The same, waiting for it; an invalid operation when none comes.
    Packet next() {
        std::optional<Packet> packet;
        run_until(
            loop, [&] { return (packet = look()).has_value(); }, std::chrono::seconds{5});
        return packet.value_or(Packet{});
    }
    bool nothing() {
        run_for(loop, std::chrono::milliseconds{20});
        return !look();
    }
    HostStream connect() { return HostStream{devices::virtio::connect_unix(path())}; }
    std::string path(const std::string& tail = {}) const { return folder.path + "/v.sock" + tail; }
    bool until(const std::function<bool()>& done) { return run_until(loop, done); }

    /// A host program and the guest's port 1234, connected from the host.
    std::pair<HostStream, Ports> open_from_host(std::uint32_t port = 1234) {
        HostStream stream = connect();
        stream.send("CONNECT " + std::to_string(port) + "\n");
        const auto request = next();
        const Ports ports{request.header.destination_port, request.header.source_port};
        send(Op::response, ports);
        std::string answer;
        until([&] { return !(answer += stream.take()).empty(); });
        return {std::move(stream), ports};
    }
    /// The same with host port 52, connected from the guest.
    std::pair<HostStream, Ports> open_from_guest(Ports ports = {5000, 52}) {
        HostListener listener{path("_" + std::to_string(ports.host))};
        send(Op::request, ports);
        (void)next(); // the response
        return {std::move(*listener.accept()), ports};
    }

    TemporaryFolder folder{};
    EventLoop loop{};
    VirtioDriver driver{64 * MiB};
    std::shared_ptr<devices::virtio::Vsock> device{};
    std::uint32_t buffer{256 * 1024}; ///< what this guest says of its buffer
    std::uint32_t read{0};            ///< and of what its program has read

private:
    std::vector<std::uint64_t> buffers_{}; // in the order given
    std::size_t taken_{0};
    std::uint64_t pool_{};
};

} // namespace inox::fakes
