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
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"

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
    bool send(std::string_view text);
    /// What is there now; "" also at the end of the stream.
    std::string take(std::size_t limit = 1 << 20);
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
    std::optional<HostStream> accept();

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

    explicit VsockGuest(devices::virtio::VsockOptions options = {}, unsigned buffers = 128);
    ~VsockGuest() { device->reset(); }

    void start(unsigned buffers = 128);
    /// Receive buffers.
    void give(unsigned count);
    /// A packet to the device; credit fields as a guest that buffers 256 KiB and has read all.
    void send(Op op, Ports ports, std::string_view payload = {}, std::uint32_t flags = 0);
    void send(const devices::virtio::VsockHeader& header, std::string_view payload = {});
    devices::virtio::VsockHeader head(Op op, Ports ports) const;
    /// The next packet from the device that is there already. Its buffer goes back to the ring.
    std::optional<Packet> look(bool give_back = true);
    /// The same, waiting for it; an invalid operation when none comes.
    Packet next();
    bool nothing();
    HostStream connect() { return HostStream{devices::virtio::connect_unix(path())}; }
    std::string path(const std::string& tail = {}) const { return folder.path + "/v.sock" + tail; }
    bool until(const std::function<bool()>& done) { return tests::run_until(loop, done); }

    /// A host program and the guest's port 1234, connected from the host.
    std::pair<HostStream, Ports> open_from_host(std::uint32_t port = 1234);
    /// The same with host port 52, connected from the guest.
    std::pair<HostStream, Ports> open_from_guest(Ports ports = {5000, 52});

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
