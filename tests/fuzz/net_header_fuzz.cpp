// SPDX-License-Identifier: Apache-2.0
// A driver's frames and control commands: negotiated features, then descriptor chains of any shape. Whatever the input,
// every chain comes back, and what reaches the host is a frame whose header keeps the rules.

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

/// One device serves all inputs, because making one takes most of the time.
struct Target {
    EventLoop loop{};
    std::shared_ptr<fakes::FakePort::State> port = std::make_shared<fakes::FakePort::State>();
    fakes::VirtioDriver driver{16 * MiB}; // 30 chains of 4 pieces of 70 KB
    std::shared_ptr<Net> net = *Net::create({.queue_pairs = 2}, loop, std::make_unique<fakes::FakePort>(port));

    void turn() { tests::turn(loop); }
    void receive(Input& input) {
        driver[0].chain().writable(1U + input.take<std::uint16_t>() % 2000).post();
        net->kick(0);
        NetHeader header;
        const auto bytes = input.take(sizeof header);
        std::memcpy(&header, bytes.data(), bytes.size());
        port->send(std::string(14 + input.take<std::uint8_t>() * 16U, 'r'), header);
        turn();
    }
    void request(Input& input, unsigned queue) {
        auto chain = driver[queue].chain();
        for (unsigned pieces = 1 + input.take<std::uint8_t>() % 4U; pieces != 0; --pieces) {
            const auto shape = input.take<std::uint8_t>();
            if (shape < 16)
                chain.writable(1U + shape);
            else
                chain.readable(shape == 255 ? std::span<const std::byte>{padding} : input.take(1U + shape % 64));
            if (chain.pieces.back().length == 0)
                chain.pieces.back().length = 1;
        }
        chain.post(queue % 2 == 0);
        net->kick(queue);
    }
    std::vector<std::byte> padding = std::vector<std::byte>(70'000);
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target target;
    Input input{std::as_bytes(std::span{data, size})};
    const std::uint64_t features = input.take<std::uint64_t>() & target.net->features();
    target.driver.activate(*target.net, features, {64, 64, 64, 64, 64});
    target.turn();
    for (int step = 0; step < 30 && !input.empty(); ++step) {
        const auto kind = input.take<std::uint8_t>();
        if (kind % 4 == 0)
            target.receive(input);
        else
            target.request(input, kind % 4 == 1 ? 4 : kind % 4 == 2 ? 3 : 1);
        for (unsigned pair = 0; pair < 2; ++pair)
            while (const auto sent = target.port->take(pair))
                check_sent(*sent, features);
    }
    target.net->reset();
    return 0;
}
