// SPDX-License-Identifier: Apache-2.0
// The metadata service behind a virtio-net device.
#include "devices/mmds/service.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/mmds_guest.hpp"
#include "tests/fakes/net_guest.hpp"

namespace inox::mmds_service_test {

using namespace devices::mmds;
using namespace std::chrono_literals;
using fakes::MmdsGuest;
using fakes::NetGuest;

namespace {

/// The service needs a loop, and the guest has it, so the service is connected later.
struct Late final : devices::virtio::NetFilter {
    void connect(std::function<void()> call) override { ready = std::move(call); }
    bool wants(std::span<const std::byte> head) noexcept override { return service->wants(head); }
    void take(std::span<const std::byte> frame) noexcept override { service->take(frame); }
    std::size_t next(std::span<std::byte> frame) noexcept override { return service->next(frame); }
    std::function<void()> ready{};
    std::shared_ptr<Service> service{};
};

struct Bench {
    fakes::FakeMetadata metadata{};
    std::shared_ptr<Late> filter = std::make_shared<Late>();
    NetGuest guest{{}, filter};
    std::vector<std::uint64_t> buffers{};

    Bench() {
        filter->service = Service::create(metadata, guest.loop, {}).value();
        filter->service->connect(filter->ready);
        guest.start(fakes::offers);
        for (int i = 0; i < 8; ++i)
            buffers.push_back(guest.give(2000));
        guest.net->kick(0);
    }
    ~Bench() { filter->service.reset(); }

    void send(const Segment& segment) {
        std::vector<std::byte> sent(tcp_frame_size(segment.payload.size()));
        sent.resize(write_segment(sent, MmdsGuest::self, MmdsGuest::gateway, segment));
        guest.send({reinterpret_cast<const char*>(sent.data()), sent.size()}); // NOLINT: bytes as text
    }
    /// The next segment the guest receives.
    std::optional<ReceivedSegment> receive() {
        const auto used = guest.received();
        if (!used)
            return std::nullopt;
        constexpr std::size_t header = sizeof(devices::virtio::NetHeader);
        frame.resize(used->length - header);
        for (std::size_t i = 0; i < frame.size(); ++i)
            frame[i] = guest.driver.ram.get<std::byte>(buffers[taken] + header + i);
        ++taken;
        return parse_segment(frame, MmdsGuest::self.address);
    }
    std::vector<std::byte> frame{};
    std::size_t taken{0};
};

constexpr Segment syn{
    .source_port = 4000, .destination_port = 80, .sequence = 99, .flags = tcp_flag::syn, .window = 60000};

} // namespace

TEST_CASE("mmds: a guest's request is answered through its interface, and the network sees nothing of it") {
    Bench bench;
    bench.send(syn);
    const auto opened = bench.receive();
    REQUIRE(opened);
    CHECK(opened->from.mac == Stack::mac);
    CHECK(opened->from.address == MmdsGuest::service);
    CHECK(opened->segment.acknowledgement == 100);
    constexpr std::string_view request = "GET /a HTTP/1.1\r\n\r\n";
    bench.send({.source_port = 4000,
                .destination_port = 80,
                .sequence = 100,
                .acknowledgement = opened->segment.sequence + 1,
                .flags = tcp_flag::ack,
                .window = 60000,
                .payload = std::as_bytes(std::span{request})});
    const auto answer = bench.receive();
    REQUIRE(answer);
    const auto bytes = answer->segment.payload;
    const std::string text{reinterpret_cast<const char*>(bytes.data()), bytes.size()}; // NOLINT: bytes as text
    CHECK(text.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(text.ends_with("\r\n\r\ntext"));
    CHECK_FALSE(bench.guest.port->take());
}

TEST_CASE("mmds: what the guest does not acknowledge comes again by itself") {
    Bench bench;
    bench.send(syn);
    const auto first = bench.receive();
    REQUIRE(first);
    const auto begin = std::chrono::steady_clock::now();
    const auto again = bench.receive();
    REQUIRE(again);
    CHECK(again->segment.sequence == first->segment.sequence);
    CHECK(std::chrono::steady_clock::now() - begin >= 150ms);
}

TEST_CASE("mmds: addresses are parsed, and nothing else") {
    CHECK(parse_ipv4("169.254.169.254") == MmdsGuest::service);
    for (const char* wrong : {"", "169.254.169", "169.254.169.256", "169.254.169.254 ", "::1", "host"})
        CHECK_FALSE(parse_ipv4(wrong));
}

} // namespace inox::mmds_service_test
