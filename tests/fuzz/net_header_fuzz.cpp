// SPDX-License-Identifier: Apache-2.0
// A driver's frames and control commands: negotiated features, then descriptor chains of any shape. Whatever the input,
// every chain comes back, and what reaches the host is a frame whose header keeps the rules. The host's network refuses
// frames, gives cut ones, and goes away; a service inside the VMM takes frames and sends some.
//
//   input   features, how the device is made, then steps
#include <deque>
#include <utility>

#include "devices/virtio/net/net.hpp"
#include "tests/fakes/net_port.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/run_loop.hpp"

using namespace inox;

namespace {

using namespace devices::virtio;
using fuzz::Input;
using fuzz::require;

/// The rules of the header, from the host's point of view.
void check_sent(const std::string& bytes, std::uint64_t features) {
    NetHeader header;
    require(bytes.size() >= sizeof header + min_frame && bytes.size() <= sizeof header + max_frame);
    std::memcpy(&header, bytes.data(), sizeof header);
    const std::size_t frame = bytes.size() - sizeof header;
    require(header.flags <= 1 && header.buffers == 0);
    if (header.flags == 1)
        require((features & net_feature::checksum) != 0 &&
                std::size_t{header.checksum_start} + header.checksum_offset + 2 <= frame);
    if (header.segmentation != 0)
        require(header.flags == 1 && header.segment_size != 0 && header.header_length <= frame);
}

/// A port that fails as the input says.
class FaultyPort final : public devices::virtio::NetPort {
public:
    struct Faults {
        int write{};        ///< errno of the next write
        int read{};         ///< of the next read
        unsigned flushes{}; ///< that find a frame still on its way
        bool more{};        ///< reads may find frames although nothing is readable
    };
    FaultyPort(std::shared_ptr<fakes::FakePort::State> state, Faults& faults)
        : port_{std::move(state)}, faults_{faults} {}
    [[nodiscard]] const std::string& name() const override { return port_.name(); }
    Result<void> open(unsigned pairs) override { return port_.open(pairs); }
    void close() noexcept override { port_.close(); }
    [[nodiscard]] int fd(unsigned pair) const override { return port_.fd(pair); }
    ssize_t read(unsigned pair, std::span<const iovec> pieces) noexcept override {
        const int error = std::exchange(faults_.read, 0);
        return error != 0 ? -error : port_.read(pair, pieces);
    }
    ssize_t write(unsigned pair, std::span<const iovec> pieces) noexcept override {
        const int error = std::exchange(faults_.write, 0);
        return error != 0 ? -error : port_.write(pair, pieces);
    }
    [[nodiscard]] bool has_more(unsigned /*pair*/) const override { return faults_.more; }
    [[nodiscard]] int flush(unsigned /*pair*/) noexcept override {
        return faults_.flushes != 0 && --faults_.flushes != 0 ? EAGAIN : 0;
    }
    [[nodiscard]] std::uint64_t capabilities() const override { return port_.capabilities(); }
    void set_offloads(std::uint64_t offloads) noexcept override { port_.set_offloads(offloads); }
    void set_active_pairs(unsigned pairs) noexcept override { port_.set_active_pairs(pairs); }
    [[nodiscard]] std::uint16_t mtu() const override { return port_.mtu(); }

private:
    fakes::FakePort port_;
    Faults& faults_;
};

/// Takes the frames that begin with an odd byte.
class Service final : public NetFilter {
public:
    std::deque<std::size_t> frames{}; ///< for the guest
    std::function<void()> ready{};

private:
    void connect(std::function<void()> call) override { ready = std::move(call); }
    bool wants(std::span<const std::byte> head) noexcept override {
        require(head.size() >= min_frame && head.size() <= head_size);
        return (head[0] & std::byte{1}) != std::byte{0};
    }
    void take(std::span<const std::byte> frame) noexcept override { require(frame.size() <= max_frame); }
    std::size_t next(std::span<std::byte> frame) noexcept override {
        require(frame.size() == max_frame);
        if (frames.empty())
            return 0;
        const auto size = frames.front();
        frames.pop_front();
        return size;
    }
};

constexpr std::array<int, 12> errors{EAGAIN, EINTR, ENOMEM, EFAULT, EBADFD, ENODEV,
                                     ENXIO,  EPIPE, EINVAL, EACCES, EIO,    ECONNRESET};

struct Target {
    EventLoop loop{};
    std::shared_ptr<fakes::FakePort::State> port = std::make_shared<fakes::FakePort::State>();
    std::shared_ptr<Service> service = std::make_shared<Service>();
    FaultyPort::Faults faults{};
    fakes::VirtioDriver driver{32 * MiB}; // 60 chains of 4 pieces of 70 KB
    std::shared_ptr<Net> net{};
    std::vector<std::byte> padding = std::vector<std::byte>(70'000);

    /// A device of its own for each input: what changes its port, and what it may send, is limited by time.
    void make(std::uint8_t how) {
        NetOptions options{.queue_pairs = (how & 1) != 0 ? 1U : 2U};
        if ((how & 2) != 0)
            options.receive_limits.bandwidth = devices::BucketLimits{100, 0, std::chrono::milliseconds{1}};
        if ((how & 4) != 0)
            options.send_limits.bandwidth = devices::BucketLimits{100, 0, std::chrono::milliseconds{1}};
        options.retry = std::chrono::milliseconds{0};
        port->missing = false;
        faults = {};
        service->frames.clear();
        net =
            *Net::create(options, loop, std::make_unique<FaultyPort>(port, faults), (how & 8) != 0 ? service : nullptr);
    }
    void turn() { tests::turn(loop); }
    void receive(Input& input) {
        auto chain = driver[0].chain();
        const auto shape = input.take<std::uint8_t>();
        for (unsigned pieces = shape % 4; pieces != 0; --pieces)
            chain.writable(1U + input.take<std::uint8_t>() * (shape & 4 ? 1U : 64U));
        if ((shape & 0xc0) == 0xc0)
            chain.readable(std::span{padding}.first(shape));
        if (!chain.pieces.empty())
            chain.post((shape & 8) != 0);
        net->kick(0);
        NetHeader header;
        const auto bytes = input.take(sizeof header);
        std::memcpy(&header, bytes.data(), bytes.size());
        const auto size = input.take<std::uint8_t>();
        if (!port->far.empty())
            port->send(std::string(size == 0xff ? max_frame + 1U : size * ((shape & 16) != 0 ? 256U : 8U), 'r'),
                       header);
        turn();
    }
    void request(Input& input, unsigned queue) {
        auto chain = driver[queue].chain();
        const auto count = input.take<std::uint8_t>();
        for (unsigned pieces = 1 + count % 4U; pieces != 0; --pieces) {
            const auto shape = input.take<std::uint8_t>();
            if (shape < 16)
                chain.writable(1U + shape);
            else
                chain.readable(shape == 255 ? std::span<const std::byte>{padding} : input.take(1U + shape % 64));
            if (chain.pieces.back().length == 0)
                chain.pieces.back().length = 1;
        }
        chain.post(queue % 2 == 0);
        if ((count & 0x80) == 0) // else the next kick finds more than one
            net->kick(queue);
    }
    void host(Input& input) {
        const auto what = input.take<std::uint8_t>();
        const auto which = input.take<std::uint8_t>();
        const int error = errors[which % errors.size()];
        switch (what % 9) {
        case 0:
            faults.write = error;
            break;
        case 1:
            faults.read = error;
            break;
        case 2:
            faults.flushes = which % 4U;
            break;
        case 3:
            faults.more = !faults.more;
            break;
        case 4:
            port->vanish();
            break;
        case 5:
            port->missing = false;
            break;
        case 6:
            service->frames.push_back(which == 0xff ? max_frame : min_frame + which * 16U);
            if (service->ready)
                service->ready();
            break;
        case 7:
            (void)net->drain();
            net->resume();
            break;
        default:
            net->reset_queue(which % 5U);
        }
        turn();
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target target;
    Input input{std::as_bytes(std::span{data, size})};
    const auto chosen = input.take<std::uint64_t>();
    target.make(input.take<std::uint8_t>());
    const std::uint64_t features = chosen & target.net->features();
    const bool pairs = (features & net_feature::queue_pairs) != 0;
    const auto queues = target.net->queue_sizes().size();
    target.driver.activate(*target.net, features, std::vector<std::uint16_t>(queues, 64));
    target.turn();
    for (int step = 0; step < 60 && !input.empty(); ++step) {
        const auto kind = input.take<std::uint8_t>();
        if (kind % 8 == 7)
            target.host(input);
        else if (kind % 4 == 0)
            target.receive(input);
        else
            target.request(input, kind % 4 == 1                  ? (pairs ? static_cast<unsigned>(queues) - 1 : 2)
                                  : kind % 4 == 2 && queues == 5 ? 3
                                                                 : 1);
        for (unsigned pair = 0; pair < target.port->far.size(); ++pair)
            while (const auto sent = target.port->take(pair))
                check_sent(*sent, features);
    }
    target.net->reset();
    target.net.reset();
    target.turn();
    return 0;
}
