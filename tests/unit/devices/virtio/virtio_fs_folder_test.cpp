// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/fs_folder.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

#include "iommu/domains.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/fuse_client.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_fs_folder_test {

using namespace devices::virtio;
using tests::FuseBody;

namespace {

constexpr std::uint64_t rings = feature::indirect | feature::event_index | feature::version_1;
constexpr unsigned urgent = 0;
constexpr unsigned usual = 1;

/// A guest with a share whose server is the test.
struct World {
    World() {
        auto made = FsFolder::create({.tag = "work", .path = "/x"}, loop, [this]() -> Result<share::StartedServer> {
            int ends[2] = {-1, -1};
            if (refuse_start || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
                return fail(Errc::host_error, "no server today");
            server.reset(ends[1]);
            starts += 1;
            return share::StartedServer{.socket = UniqueFd{ends[0]}};
        });
        fs = std::move(*made);
        driver.activate(*fs, rings);
    }

    /// Posts a request with room for a reply of `room` bytes; returns where that goes.
    std::uint64_t post(unsigned queue, std::span<const std::byte> message, std::uint32_t room) {
        auto chain = driver[queue].chain();
        chain.readable(message.first(std::min<std::size_t>(message.size(), 40)));
        if (message.size() > 40)
            chain.readable(message.subspan(40));
        if (room != 0)
            chain.writable(room);
        const auto pieces = chain.post(true);
        fs->kick(queue);
        return room != 0 ? pieces.back().address : 0;
    }
    std::uint64_t ask(std::uint64_t unique, std::uint32_t room = 64, std::uint32_t opcode = FUSE_STATFS) {
        return post(usual, tests::fuse_message(opcode, 1, {}, unique), room);
    }
    /// What the server gets, up to `size` bytes; the loop runs meanwhile.
    std::vector<std::byte> get(std::size_t size) {
        std::vector<std::byte> bytes(size);
        std::size_t have = 0;
        tests::run_until(
            loop,
            [&] {
                const auto got = ::recv(server.get(), bytes.data() + have, size - have, MSG_DONTWAIT);
                have += got > 0 ? static_cast<std::size_t>(got) : 0;
                return have == size;
            },
            std::chrono::seconds{have == 0 ? 5 : 10});
        bytes.resize(have);
        return bytes;
    }
    fuse_in_header get_header() {
        fuse_in_header header{};
        const auto bytes = get(sizeof header);
        std::memcpy(&header, bytes.data(), bytes.size());
        return header;
    }
    void reply(std::uint64_t unique, int error, std::string_view body = {}) {
        const fuse_out_header header{static_cast<std::uint32_t>(sizeof header + body.size()), -error, unique};
        const auto message = FuseBody{}.add(header).raw(body).all;
        (void)!::write(server.get(), message.data(), message.size());
    }
    std::optional<fakes::VirtqueueDriver::Used> used(unsigned queue = usual) {
        std::optional<fakes::VirtqueueDriver::Used> found;
        tests::run_until(loop, [&] { return (found = driver[queue].used()).has_value(); });
        return found;
    }
    fuse_out_header header_at(std::uint64_t address) {
        return {driver.ram.get<std::uint32_t>(address), driver.ram.get<std::int32_t>(address + 4),
                driver.ram.get<std::uint64_t>(address + 8)};
    }

    tests::LogCapture log{};
    EventLoop loop{};
    fakes::VirtioDriver driver{64 * MiB};
    UniqueFd server{};
    unsigned starts{0};
    bool refuse_start{false};
    std::shared_ptr<FsFolder> fs{};
};

} // namespace

TEST_CASE("the tag and one queue for requests are in the configuration") {
    World world;
    std::array<std::byte, 40> config{};
    world.fs->read_config(0, config);
    CHECK(load_le<std::uint32_t>(std::span{config}.first(4)) == 0x6b726f77); // "work"
    CHECK(config[4] == std::byte{0});
    CHECK(load_le<std::uint32_t>(std::span{config}.subspan(36)) == 1);
    CHECK(world.fs->translatable());
}

TEST_CASE("a request goes to the server and its reply comes back, in whatever order") {
    World world;
    const auto first = world.ask(11);
    const auto second = world.ask(12);
    CHECK(world.get_header().unique == 11);
    CHECK(world.get_header().unique == 12);
    world.reply(12, 0, "second");
    CHECK(world.used()->length == 22);
    CHECK(world.driver.ram.text(second + 16, 6) == "second");
    world.reply(11, ENOENT);
    CHECK(world.used()->length == 16);
    CHECK(world.header_at(first).error == -ENOENT);
    CHECK(world.header_at(first).unique == 11);
    CHECK(world.driver.notifier.used[usual] != 0);
}

TEST_CASE("a message that the socket takes in parts arrives whole, and later ones wait their turn") {
    World world;
    FuseBody body;
    for (std::uint32_t i = 0; i < share::max_data / 4; ++i)
        body.add(i);
    const auto first = tests::fuse_message(FUSE_WRITE, 1, body, 1);
    const auto second = tests::fuse_message(FUSE_WRITE, 1, body, 2);
    world.post(usual, first, 64);
    world.post(usual, second, 64);
    world.ask(3);
    CHECK((world.get(first.size()) == first));
    CHECK((world.get(second.size()) == second));
    CHECK(world.get_header().unique == 3);
    for (const std::uint64_t unique : {1ULL, 2ULL, 3ULL})
        world.reply(unique, 0);
    CHECK(world.used());
}

TEST_CASE("what needs no reply is given back at once") {
    World world;
    world.post(urgent, tests::fuse_message(FUSE_FORGET, 5, FuseBody{}.add(fuse_forget_in{1}), 9), 0);
    CHECK(world.used(urgent)->length == 0);
    CHECK(world.get_header().opcode == FUSE_FORGET);
}

TEST_CASE("a reply that is longer than the guest's room is an error of its request") {
    World world;
    const auto at = world.ask(1, 32);
    world.get_header();
    world.reply(1, 0, std::string(17, 'x'));
    CHECK(world.used()->length == 16);
    CHECK(world.header_at(at).error == -EIO);
    CHECK(world.header_at(at).len == 16);
    CHECK(world.ask(2) != 0); // the others go on
    CHECK(world.get_header().unique == 2);
}

TEST_CASE("malformed requests are answered with an error and do not reach the server") {
    World world;
    auto message = tests::fuse_message(FUSE_STATFS, 1, {}, 1);
    std::uint32_t room = 64;
    SECTION("a length that is not the message's") { message[0] = std::byte{99}; }
    SECTION("no header") { message.resize(20); }
    SECTION("the number that the device itself uses") {
        message = tests::fuse_message(FUSE_STATFS, 1, {}, ~std::uint64_t{0});
    }
    SECTION("too long") {
        message = tests::fuse_message(FUSE_STATFS, 1, FuseBody{}.raw(std::string(share::max_message, 'x')), 1);
    }
    SECTION("no room for a reply") { room = 15; }
    const auto at = world.post(usual, message, room);
    const auto used = world.used();
    REQUIRE(used);
    CHECK(used->length == (room < 16 ? 0 : 16));
    if (room >= 16)
        CHECK(world.header_at(at).error == -EIO);
    CHECK(world.fs->counters().bad_requests == 1);
    world.ask(2);
    CHECK(world.get_header().unique == 2); // and nothing before it
}

TEST_CASE("two requests under way with one number: the second is refused") {
    World world;
    const auto first = world.ask(1);
    const auto second = world.ask(1);
    CHECK(world.used());
    CHECK(world.header_at(second).error == -EIO);
    world.get_header();
    world.reply(1, 0);
    CHECK(world.used());
    CHECK(world.header_at(first).unique == 1);
}

TEST_CASE("a reset forgets what is under way, in the server too, and no late reply reaches the guest") {
    World world;
    world.ask(1);
    CHECK(world.get_header().unique == 1);
    world.fs->reset();
    CHECK(!world.fs->resetting());
    world.driver.activate(*world.fs, rings);
    const auto at = world.ask(1); // the same number again
    world.reply(1, 0, "of the request before the reset");
    const auto forget = world.get_header();
    CHECK(forget.opcode == FUSE_DESTROY);
    CHECK(world.get_header().unique == 1);
    world.reply(forget.unique, 0);
    world.reply(1, 0, "new");
    const auto used = world.used();
    REQUIRE(used);
    CHECK(used->length == 19);
    CHECK(world.driver.ram.text(at + 16, 3) == "new");
    CHECK(world.starts == 1);
}

TEST_CASE("resets of a device that nobody used tell the server nothing") {
    World world;
    for (unsigned i = 0; i < 100; ++i) {
        world.fs->reset();
        world.driver.activate(*world.fs, rings);
    }
    world.ask(1);
    CHECK(world.get_header().opcode == FUSE_STATFS);
}

TEST_CASE("a queue that is reset gets no late reply") {
    World world;
    const auto at = world.ask(1);
    world.get_header();
    world.driver.ram.put<std::uint64_t>(at + 8, 0x1122);
    world.fs->reset_queue(usual);
    world.reply(1, 0);
    tests::run_for(world.loop, std::chrono::milliseconds{50});
    CHECK(world.header_at(at).unique == 0x1122);
}

TEST_CASE("a server that ends fails its requests, and a new one serves the guest that mounts again") {
    World world;
    const auto at = world.ask(1);
    world.get_header();
    SECTION("it ends") { world.server.reset(); }
    SECTION("it breaks the framing") {
        const std::uint32_t length = GENERATE(0U, 15U, 0xffff'ffffU);
        world.reply(1, 0);
        const auto nonsense = FuseBody{}.add(length).raw(std::string(28, 'x')).all;
        (void)!::write(world.server.get(), nonsense.data(), nonsense.size());
    }
    REQUIRE(world.used());
    CHECK((world.header_at(at).error == -ENOTCONN || world.header_at(at).error == 0));
    CHECK(tests::run_until(world.loop, [&] { return world.log.text().find("server is gone") != std::string::npos; }));
    const auto second = world.ask(2);
    REQUIRE(world.used());
    CHECK(world.header_at(second).error == -ENOTCONN);
    const auto early = world.ask(3, 64, FUSE_INIT); // at most one start a second
    REQUIRE(world.used());
    CHECK(world.header_at(early).error == -ENOTCONN);
    CHECK(tests::busy_for(world.loop, FsFolder::between_starts) < std::chrono::milliseconds{200});
    world.ask(4, 64, FUSE_INIT);
    CHECK(world.starts == 2);
    CHECK(world.get_header().unique == 4);
    CHECK(world.driver.notifier.broken == 0);
}

TEST_CASE("behind the guest's IOMMU a reply goes where the address leads when it comes, and nowhere else") {
    World world;
    using iommu::Status;
    const iommu::DomainId domain{1};
    iommu::Domains domains{world.driver.ram.memory, {}, false};
    const auto memory = domains.make_memory();
    const auto stay = *domains.add_endpoint(iommu::EndpointId{0x30}, "fs", *memory);
    REQUIRE(domains.attach(domain, iommu::EndpointId{0x30}, false) == Status::ok);
    const auto map = [&](std::uint64_t first, std::uint64_t last, std::uint64_t to) {
        return domains.map(domain, Iova{first}, Iova{last}, Gpa{to}, 3) == Status::ok;
    };
    constexpr std::uint64_t spot = 48 * MiB; // the page for the reply, mapped alone
    constexpr std::uint64_t other = 56 * MiB;
    REQUIRE(map(0, spot - 1, 0));
    REQUIRE(map(spot, spot + page_size - 1, spot));
    world.fs->reset();
    world.driver.activate(*world.fs, rings | feature::access_platform, {}, memory.get());
    world.driver[usual].chain().readable(tests::fuse_message(FUSE_STATFS, 1, {}, 1)).raw({spot, 64, true}).post();
    world.fs->kick(usual);
    CHECK(world.get_header().unique == 1);
    REQUIRE(domains.unmap(domain, Iova{spot}, Iova{spot + page_size - 1}) == Status::ok); // nothing is pinned
    world.driver.ram.put<std::uint64_t>(spot + 8, 0x1122);
    SECTION("it is gone") {
        world.reply(1, 0, "reply");
        CHECK(world.used()->length == 0);
        CHECK(world.fs->counters().bad_requests == 1);
    }
    SECTION("it leads elsewhere") {
        REQUIRE(map(spot, spot + page_size - 1, other));
        world.reply(1, 0, "reply");
        CHECK(world.used()->length == 21);
        CHECK(world.driver.ram.text(other + 16, 5) == "reply");
    }
    CHECK(world.driver.ram.get<std::uint64_t>(spot + 8) == 0x1122);
    CHECK(world.driver.notifier.broken == 0);
    world.fs->reset();
}

TEST_CASE("a guest that asks for more than the server takes has to wait, and the device keeps little") {
    World world;
    const auto message = tests::fuse_message(FUSE_WRITE, 1, FuseBody{}.raw(std::string(share::max_data, 'x')), 1);
    for (unsigned i = 0; i < 8; ++i) {
        auto one = message;
        one[8] = static_cast<std::byte>(i); // its number
        world.post(usual, one, 64);
    }
    CHECK(tests::busy_for(world.loop, std::chrono::milliseconds{200}) < std::chrono::milliseconds{100});
    CHECK(!world.driver[usual].used());
    for (unsigned i = 0; i < 8; ++i)
        CHECK(world.get(message.size()).size() == message.size());
}

} // namespace inox::virtio_fs_folder_test
