// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/queue.hpp"

#include <type_traits>
#include <utility>

#include "devices/virtio/serve.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/virtqueue_driver.hpp"

namespace inox::virtio_queue_test {

using devices::virtio::Chain;
using devices::virtio::ChainHead;
using devices::virtio::Queue;
using fakes::TestRam;
using fakes::VirtqueueDriver;

namespace {

struct Setup {
    TestRam ram{};
    VirtqueueDriver driver{ram, 8};
    bool event_index{false};
    std::optional<Queue> queue{};
    Chain chain{};

    explicit Setup(bool event = false) : event_index{event} {
        queue.emplace(ram.direct, driver.layout, event);
        REQUIRE(queue->refresh());
    }
    std::string broken() {
        CHECK_FALSE(queue->pop(chain));
        return queue->broken() ? queue->broken_reason() : "";
    }
};

} // namespace

TEST_CASE("a chain arrives as its readable and writable pieces, direct and indirect") {
    for (const bool indirect : {false, true}) {
        Setup s;
        const auto pieces = s.driver.chain().readable("head").readable("tail").writable(16).post(indirect);
        REQUIRE(s.queue->pop(s.chain));
        CHECK(s.chain.readable.size() == 2);
        CHECK(Chain::bytes(s.chain.writable) == 16);
        std::array<std::byte, 6> copy{};
        CHECK(s.chain.copy_from(2, copy) == 6);
        CHECK(std::memcmp(copy.data(), "adtail", 6) == 0);
        CHECK(s.chain.copy_to(14, copy) == 2);
        CHECK(s.ram.text(pieces[2].address + 14, 2) == "ad");
        s.queue->push(s.chain.head, 3);
        const auto used = s.driver.used();
        REQUIRE(used);
        CHECK(used->length == 3);
        CHECK_FALSE(s.queue->pop(s.chain));
        CHECK_FALSE(s.queue->broken());
    }
}

TEST_CASE("the ring wraps many times without losing a request") {
    Setup s;
    for (unsigned i = 0; i < 70'000; ++i) {
        s.ram.next = 0x200000;
        s.driver.chain().readable("x").post();
        REQUIRE(s.queue->pop(s.chain));
        s.queue->push(s.chain.head, 0);
        REQUIRE(s.driver.used());
    }
}

TEST_CASE("a broken ring stops the queue and names the rule it broke") {
    SECTION("index out of range") {
        Setup s;
        s.driver.make_available(8);
        CHECK(s.broken() == "a descriptor index is out of range");
        CHECK_FALSE(s.queue->refresh());
    }
    SECTION("loop") {
        Setup s;
        s.driver.set_descriptor(0, 0x1000, 16, 1, 1);
        s.driver.set_descriptor(1, 0x1000, 16, 1, 0);
        s.driver.make_available(0);
        CHECK(s.broken() == "a descriptor chain loops");
    }
    SECTION("outside RAM, wrapping, empty") {
        for (const auto& [address, length] : std::vector<std::pair<std::uint64_t, std::uint32_t>>{
                 {4 * MiB - 8, 16}, {~std::uint64_t{0} - 3, 8}, {0x1000, 0}}) {
            Setup s;
            s.driver.set_descriptor(0, address, length, 0, 0);
            s.driver.make_available(0);
            CHECK_FALSE(s.broken().empty());
        }
    }
    SECTION("readable after writable") {
        Setup s;
        s.driver.set_descriptor(0, 0x1000, 16, 3, 1);
        s.driver.set_descriptor(1, 0x1000, 16, 0, 0);
        s.driver.make_available(0);
        CHECK(s.broken() == "a readable descriptor follows a writable one");
    }
    SECTION("available index ahead of the ring") {
        Setup s;
        s.driver.set_available_index(9);
        CHECK(s.broken() == "the available index ran ahead of the ring");
    }
    SECTION("indirect: odd length, nested, successor, out of range, looping") {
        const auto table = std::uint64_t{0x3000};
        auto with = [&](std::uint32_t length, std::uint16_t outer, std::uint16_t inner, std::uint16_t next) {
            Setup s;
            s.driver.set_descriptor(0, table, length, outer, 1);
            for (unsigned i = 0; i < 2; ++i) {
                s.ram.put(table + 16 * i, std::uint64_t{0x1000});
                s.ram.put(table + 16 * i + 8, std::uint32_t{4});
                s.ram.put(table + 16 * i + 12, inner);
                s.ram.put(table + 16 * i + 14, next);
            }
            s.driver.make_available(0);
            return s.broken();
        };
        CHECK(with(17, 4, 0, 0) == "an indirect table has an impossible length");
        CHECK(with(0, 4, 0, 0) == "an indirect table has an impossible length");
        CHECK(with(32, 5, 0, 0) == "an indirect descriptor has a successor");
        CHECK(with(32, 4, 4, 0) == "an indirect table holds an indirect descriptor");
        CHECK(with(32, 4, 1, 2) == "an indirect descriptor's successor is out of range");
        CHECK(with(32, 4, 1, 0) == "an indirect descriptor chain loops");
    }
}

TEST_CASE("rings must be aligned and inside memory") {
    TestRam ram;
    VirtqueueDriver driver{ram, 8};
    auto with = [&](auto change) {
        auto layout = driver.layout;
        change(layout);
        return Queue{ram.direct, layout, false}.refresh();
    };
    CHECK(with([](auto&) {}));
    CHECK_FALSE(with([](auto& layout) { layout.descriptors = layout.descriptors + 8; }));
    CHECK_FALSE(with([](auto& layout) { layout.available = layout.available + 1; }));
    CHECK_FALSE(with([](auto& layout) { layout.used = layout.used + 2; }));
    CHECK_FALSE(with([](auto& layout) { layout.used = Iova{4 * MiB - 8}; }));
    CHECK_FALSE(with([](auto& layout) { layout.descriptors = Iova{~std::uint64_t{0} - 15}; }));
}

TEST_CASE("without event index the driver's flag suppresses interrupts, and ours notifications") {
    Setup s;
    s.driver.chain().readable("x").post();
    REQUIRE(s.queue->pop(s.chain));
    CHECK_FALSE(s.queue->take_interrupt());
    s.queue->push(s.chain.head, 0);
    CHECK(s.queue->take_interrupt());
    CHECK_FALSE(s.queue->take_interrupt());
    s.driver.set_available_flags(1);
    s.driver.chain().readable("x").post();
    REQUIRE(s.queue->pop(s.chain));
    s.queue->push(s.chain.head, 0);
    CHECK_FALSE(s.queue->take_interrupt());
    s.queue->ask_notifications(false);
    CHECK(s.driver.used_flags() == 1);
    s.queue->ask_notifications(true);
    CHECK(s.driver.used_flags() == 0);
}

TEST_CASE("with event index an interrupt comes when the used index passes the driver's event") {
    Setup s{true};
    auto complete = [&] {
        s.driver.chain().readable("x").post();
        REQUIRE(s.queue->pop(s.chain));
        s.queue->push(s.chain.head, 0);
        return s.queue->take_interrupt();
    };
    CHECK(complete()); // the first one always interrupts
    s.driver.set_used_event(3);
    CHECK_FALSE(complete());
    CHECK_FALSE(complete());
    CHECK(complete());
    CHECK_FALSE(complete());
    s.queue->ask_notifications(true);
    CHECK(s.driver.avail_event() == 5);
    s.queue->ask_notifications(false);
    CHECK(s.driver.avail_event() == static_cast<std::uint16_t>(5 - 0x8000));
}

TEST_CASE("pieces can be cut at either end") {
    std::array<std::byte, 10> bytes{};
    auto make = [&] { return std::vector<iovec>{{bytes.data(), 4}, {bytes.data() + 4, 6}}; };
    auto pieces = make();
    REQUIRE(devices::virtio::drop_front(pieces, 4));
    CHECK(pieces.size() == 1);
    pieces = make();
    REQUIRE(devices::virtio::drop_front(pieces, 5));
    CHECK(pieces[0].iov_base == bytes.data() + 5);
    CHECK_FALSE(devices::virtio::drop_front(pieces, 6));
    REQUIRE(devices::virtio::drop_front(pieces, 5));
    CHECK(pieces.empty());
    pieces = make();
    devices::virtio::keep_front(pieces, 5);
    CHECK(Chain::bytes(pieces) == 5);
    CHECK(pieces.size() == 2);
}

TEST_CASE("a chain is given back once, by who holds its head") {
    static_assert(!std::is_copy_constructible_v<Chain>);
    static_assert(std::is_nothrow_move_constructible_v<ChainHead>);
    Setup s;
    for (unsigned i = 0; i < 3; ++i)
        s.driver.chain().readable("x").post();
    REQUIRE(s.queue->pop(s.chain));
    CHECK(s.queue->outstanding() == 1);
    ChainHead kept = std::move(s.chain.head);
    s.queue->push(s.chain.head, 5); // it was moved from: there is nothing to give back
    s.queue->undo_pop(s.chain.head);
    CHECK_FALSE(s.driver.used());
    CHECK(s.queue->outstanding() == 1);
    s.queue->push(kept, 1);
    s.queue->push(kept, 2); // a second time
    REQUIRE(s.driver.used());
    CHECK_FALSE(s.driver.used());
    CHECK(s.queue->outstanding() == 0);
    REQUIRE(s.queue->pop(s.chain));
    s.queue->undo_pop(s.chain.head);
    s.queue->undo_pop(s.chain.head);
    CHECK(s.queue->outstanding() == 0);
    unsigned left = 0;
    while (s.queue->pop(s.chain))
        ++left;
    CHECK(left == 2);
    CHECK(s.queue->outstanding() == 2);
}

TEST_CASE("a request whose handler does not give it back goes back with 0 bytes; one whose head is kept does not") {
    Setup s;
    for (unsigned i = 0; i < 3; ++i)
        s.driver.chain().writable(8).post();
    ChainHead kept;
    unsigned handled = 0;
    const auto served = devices::virtio::serve(*s.queue, s.chain, 10, [&](Chain& chain) {
        if (++handled == 2)
            kept = std::move(chain.head);
        if (handled == 3)
            s.queue->push(chain.head, 8);
        return true;
    });
    CHECK(served == devices::virtio::Served::all);
    CHECK(handled == 3);
    CHECK(s.driver.used()->length == 0);
    CHECK(s.driver.used()->length == 8);
    CHECK_FALSE(s.driver.used());
    CHECK(s.queue->outstanding() == 1);
    s.queue->push(kept, 4);
    CHECK(s.driver.used()->length == 4);
    CHECK(s.queue->outstanding() == 0);
}

} // namespace inox::virtio_queue_test
