// SPDX-License-Identifier: Apache-2.0
// The side that gets a guest, with a stream that is cut, altered or hostile at each message.
#include <sys/socket.h>
#include <thread>

#include "tests/catch.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/instance/move/move_in.hpp"
#include "vmm/instance/move/stream.hpp"
#include "vmm/snapshot/state_file.hpp"

namespace inox::move_stream_test {
namespace {

using move::Channel;
using move::Type;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t size = 8 * MiB;

Bytes hello() {
    snapshot::Parts parts;
    Config config;
    config.machine.memory = size;
    std::optional<MmdsConfig> mmds;
    parts.save("config", [&](State& state) { config_state(state, config); });
    parts.save("mmds", [&](State& state) { mmds_state(state, mmds); });
    return snapshot::encode(parts.value());
}

Bytes state(bool paused) {
    snapshot::Parts parts;
    parts.save("move", [&](State& one) {
        one.version(1);
        one.flag("paused", paused);
    });
    return snapshot::encode(parts.value());
}

template <class... T> Bytes words(T... values) {
    Bytes out;
    for (const std::uint64_t value : {static_cast<std::uint64_t>(values)...}) {
        const Le64 word{value};
        const auto bytes = std::as_bytes(std::span{&word, 1});
        out.insert(out.end(), bytes.begin(), bytes.end());
    }
    return out;
}

Bytes pages(std::uint64_t first, std::size_t count, std::byte fill) {
    auto out = words(first);
    out.resize(out.size() + count * page_size, fill);
    return out;
}

struct Sent {
    Type type;
    Bytes bytes{};
};

Bytes whole(const std::vector<Sent>& messages) {
    Bytes out;
    for (const auto& message : messages) {
        const Le32 head[]{Le32{move::magic}, Le32{static_cast<std::uint32_t>(message.type)}};
        const auto bytes = std::as_bytes(std::span{head});
        out.insert(out.end(), bytes.begin(), bytes.end());
        const auto length = words(message.bytes.size());
        out.insert(out.end(), length.begin(), length.end());
        out.insert(out.end(), message.bytes.begin(), message.bytes.end());
    }
    return out;
}

struct Outcome {
    Result<void> result{};
    bool paused{false};
    GuestMemory memory = *GuestMemory::create(size, HugePages::none);
};

/// What the destination makes of these bytes, after which the stream ends.
Outcome destination(std::span<const std::byte> bytes) {
    int ends[2]{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    UniqueFd source{ends[0]};
    MoveIn in{UniqueFd{ends[1]}};
    std::jthread writer{[&] {
        for (auto left = bytes; !left.empty();) {
            const auto sent = ::send(source.get(), left.data(), left.size(), MSG_NOSIGNAL);
            if (sent <= 0)
                break;
            left = left.subspan(static_cast<std::size_t>(sent));
        }
        ::shutdown(source.get(), SHUT_WR);
    }};
    Outcome out;
    out.result = [&]() -> Result<void> {
        const auto guest = TRY(in.greet());
        if (guest.config.machine.memory != size)
            return fail(Errc::internal, "another guest");
        const auto all = TRY(in.receive(out.memory));
        out.paused = all.paused;
        return in.take_over();
    }();
    ::shutdown(source.get(), SHUT_RDWR); // the writer may wait for somebody who reads
    return out;
}

const std::vector<Sent>& good() {
    static const std::vector<Sent> messages{
        {Type::hello, hello()},     {Type::pages, pages(3, 2, std::byte{7})},
        {Type::zeros, words(4, 1)}, {Type::pages, pages(size / page_size - 1, 1, std::byte{9})},
        {Type::state, state(true)}, {Type::go}};
    return messages;
}

} // namespace

TEST_CASE("a guest comes with its memory, its state and the word that it is ours") {
    const auto out = destination(whole(good()));
    REQUIRE(out.result);
    CHECK(out.paused);
    CHECK(out.memory.read<std::uint8_t>(Gpa{3 * page_size}) == 7);
    CHECK(out.memory.read<std::uint8_t>(Gpa{4 * page_size}) == 0);
    CHECK(out.memory.read<std::uint8_t>(Gpa{size - 1}) == 9);
    CHECK(out.memory.read<std::uint8_t>(Gpa{5 * page_size}) == 0);
}

TEST_CASE("a stream that breaks anywhere gives no guest") {
    const auto bytes = whole(good());
    std::vector<std::size_t> cuts;
    for (std::size_t at = 0; at < bytes.size(); at += at < 64 || bytes.size() - at < 600 ? 1 : 997)
        cuts.push_back(at);
    for (const auto at : cuts) {
        INFO(at);
        const auto out = destination(std::span{bytes}.first(at));
        REQUIRE_FALSE(out.result);
        CHECK(out.result.error().code == Errc::host_error);
    }
}

TEST_CASE("messages in another order, of another size or of other memory are refused") {
    const auto refused = [](std::size_t at, Sent instead) {
        auto messages = good();
        messages[at] = std::move(instead);
        const auto out = destination(whole(messages));
        REQUIRE_FALSE(out.result);
        CHECK(out.result.error().code == Errc::snapshot_invalid);
    };
    constexpr auto count = size / page_size;
    for (std::size_t at = 0; at < good().size(); ++at)
        for (const auto type : {Type::hello, Type::ready, Type::loaded, Type::running, Type::refused})
            if (at != 0 || type != Type::hello)
                if (at != 5 || type != Type::refused) // the other side may say why it does not hand it over
                    refused(at, {type, {}});
    refused(0, {Type::state, hello()});
    refused(0, {Type::hello, state(false)});
    refused(1, {Type::pages, {}});
    refused(1, {Type::pages, words(3)});
    refused(1, {Type::pages, Bytes(8 + page_size - 1)});
    refused(1, {Type::pages, pages(count, 1, std::byte{1})});
    refused(1, {Type::pages, pages(count - 1, 2, std::byte{1})});
    refused(1, {Type::pages, pages(~std::uint64_t{0}, 1, std::byte{1})});
    refused(1, {Type::pages, pages(0, move::most_pages + 1, std::byte{1})});
    refused(2, {Type::zeros, words(0)});
    refused(2, {Type::zeros, words(0, 0)});
    refused(2, {Type::zeros, words(1, ~std::uint64_t{0})});
    refused(2, {Type::zeros, words(0, count + 1)});
    refused(4, {Type::state, Bytes(100)});
    refused(4, {Type::go, {}});
    refused(5, {Type::go, words(1)});
}

TEST_CASE("a length that nothing has is refused before memory is made for it") {
    for (const auto type : {Type::hello, Type::state, Type::pages}) {
        auto bytes = whole({good()[0]});
        if (type == Type::hello)
            bytes.clear();
        const Le32 head[]{Le32{move::magic}, Le32{static_cast<std::uint32_t>(type)}};
        const auto start = std::as_bytes(std::span{head});
        bytes.insert(bytes.end(), start.begin(), start.end());
        const auto length = words(std::uint64_t{1} << 62);
        bytes.insert(bytes.end(), length.begin(), length.end());
        const auto out = destination(bytes);
        REQUIRE_FALSE(out.result);
        CHECK(out.result.error().code == Errc::snapshot_invalid);
    }
}

TEST_CASE("rounds that never end are given up") {
    auto messages = std::vector<Sent>{good()[0]};
    for (int i = 0; i < 65; ++i)
        messages.push_back({Type::zeros, words(0, size / page_size)});
    const auto out = destination(whole(messages));
    REQUIRE_FALSE(out.result);
    CHECK(out.result.error().what.contains("end"));
}

TEST_CASE("a refusal is told, and a side that says nothing is not waited for") {
    int ends[2]{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    Channel source{UniqueFd{ends[0]}};
    MoveIn in{UniqueFd{ends[1]}};
    CHECK(source.expect(Type::ready, std::chrono::milliseconds{20}).error().code == Errc::timed_out);
    in.refuse(make_error(Errc::disk_missing, "no disk\nhere", ""));
    const auto told = source.expect(Type::ready);
    REQUIRE_FALSE(told);
    CHECK(told.error().code == Errc::wrong_state);
    CHECK(told.error().what.contains("no disk?here"));
}

TEST_CASE("a stream is a socket's path or a descriptor") {
    CHECK(move::parse_stream("unix:/tmp/a b")->path == "/tmp/a b");
    CHECK(move::parse_stream("fd:7")->fd == 7);
    for (const auto* text :
         {"", "unix:", "fd:", "fd:x", "fd:7x", "fd:-1", "fd:99999999999", "fd:2", "tcp:1", "/tmp/x"}) {
        INFO(text);
        CHECK_FALSE(move::parse_stream(text));
    }
    CHECK_FALSE(move::parse_stream("unix:" + std::string(200, 'x')));
    CHECK_FALSE(move::accept_one({.path = {}, .fd = 999}));
}

} // namespace inox::move_stream_test
