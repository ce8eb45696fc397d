// SPDX-License-Identifier: Apache-2.0
// How much work a guest can cause on the device loop at once, and how much memory. The tests count and do not measure
// time, because the machine may be slow.
#include <random>

#include "devices/virtio/balloon.hpp"
#include "devices/virtio/block/block.hpp"
#include "devices/virtio/console.hpp"
#include "devices/virtio/entropy.hpp"
#include "devices/virtio/later.hpp"
#include "devices/virtio/serve.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"
#include "tests/support/translate.hpp"

namespace inox::virtio_limits_test {

using namespace devices::virtio;
using fakes::IommuWorld;
using iommu::Status;
using W = IommuWorld;
using IovaRange = Range<Iova>;

namespace {

constexpr std::uint64_t page = W::page;
constexpr std::uint64_t ram_pages = 1024;
constexpr std::uint64_t far = std::uint64_t{1} << 20; ///< first page of the mappings for the attack: 4 GiB
constexpr std::uint64_t most = (std::uint64_t{1} << 20) - 8;

/// Maps all RAM 1:1, and makes `count` mappings of one page each.
struct Attacker {
    enum class Lie : std::uint8_t { scattered, side_by_side };

    IommuWorld world{{}, false, false};
    const iommu::EndpointMemory& memory{*world.disk_memory};

    Attacker(std::uint64_t count, Lie lie) {
        REQUIRE(world.attach(1, W::disk) == Status::ok);
        REQUIRE(world.map(1, 0, ram_pages - 1, 0) == Status::ok);
        bool good = true;
        for (std::uint64_t i = 0; i < count; ++i)
            good &=
                world.map(1, far + i, far + i, lie == Lie::scattered ? i * 3 % ram_pages : i % ram_pages) == Status::ok;
        REQUIRE(good);
    }
    [[nodiscard]] std::uint64_t looked_up() const {
        const auto counts = memory.counts();
        return counts.hits + counts.misses;
    }
};

} // namespace

TEST_CASE("a buffer over a million mappings costs what the limit says, and no more") {
    const auto lie = GENERATE(Attacker::Lie::scattered, Attacker::Lie::side_by_side);
    Attacker attacker{most, lie};
    const auto hold = attacker.memory.hold();
    std::vector<iovec> out;
    TranslationLimit limit{Queue::max_chain, Queue::max_mappings};
    const std::uint64_t before = attacker.looked_up();
    CHECK(attacker.memory.translate(*IovaRange::sized(Iova{far * page}, 0xffffe000), Access::read, out, limit) ==
          Translated::too_many);
    CHECK(out.empty());
    CHECK(out.capacity() <= 2 * Queue::max_chain);
    const std::uint64_t looked_up = attacker.looked_up() - before;
    if (lie == Attacker::Lie::scattered) {
        CHECK(limit.pieces == 0);
        CHECK(looked_up <= Queue::max_chain + 2);
    } else {
        CHECK(limit.mappings == 0);
        CHECK(looked_up <= Queue::max_mappings + 2);
    }
    CHECK(attacker.memory.counts().faults == 0); // the driver did nothing that an IOMMU forbids
}

TEST_CASE("long ranges are translated as their pages are, one by one") {
    IommuWorld world{{}, false, false};
    REQUIRE(world.attach(1, W::disk) == Status::ok);
    std::mt19937 random{7}; // NOLINT: the same each time
    for (std::uint64_t at = 0; at < 3000;) {
        const std::uint64_t size = random() % 16 == 0 ? random() % 40 + 1 : 1;
        const auto kind = random() % 200;
        // A hole, a read-only mapping, or a plain one.
        if (kind > 1)
            REQUIRE(world.map(1, at, at + size - 1, random() % (ram_pages - 64),
                              kind == 2 ? W::read : W::read | W::write) == Status::ok);
        at += size;
    }
    const auto& memory = *world.disk_memory;
    const auto hold = memory.hold();
    for (int i = 0; i < 400; ++i) {
        const std::uint64_t start = random() % (2900 * page), size = random() % (64 * page) + 1;
        const auto access = i % 2 == 0 ? Access::read : Access::write;
        std::vector<iovec> whole, single;
        const bool good = tests::translate(memory, *IovaRange::sized(Iova{start}, size), access, whole);
        bool each = true;
        for (std::uint64_t at = start; each && at < start + size;) {
            const std::uint64_t part = std::min(start + size - at, page - at % page);
            std::vector<iovec> piece;
            each = tests::translate(memory, *IovaRange::sized(Iova{at}, part), access, piece);
            if (each && !single.empty() &&
                static_cast<std::byte*>(single.back().iov_base) + single.back().iov_len == piece[0].iov_base)
                single.back().iov_len += part;
            else if (each)
                single.push_back(piece[0]);
            at += part;
        }
        CAPTURE(start, size);
        REQUIRE(good == each);
        REQUIRE(whole.size() == (good ? single.size() : 0));
        for (std::size_t n = 0; n < whole.size(); ++n)
            REQUIRE((whole[n].iov_base == single[n].iov_base && whole[n].iov_len == single[n].iov_len));
    }
}

TEST_CASE("a chain over too many mappings breaks the ring before memory is taken for it") {
    const bool one_descriptor = GENERATE(true, false);
    Attacker attacker{64 * 1024, Attacker::Lie::scattered};
    fakes::VirtqueueDriver driver{attacker.world.ram, 16};
    Queue queue{attacker.memory, driver.layout, false};
    const auto hold = attacker.memory.hold();
    REQUIRE(queue.refresh());
    auto chain = driver.chain();
    for (unsigned i = 0; i < (one_descriptor ? 1 : 8); ++i)
        chain.raw({far * page, one_descriptor ? 0x10000000 - 4096U : 200 * 4096U, i >= 4});
    chain.post();
    Chain taken;
    const std::uint64_t before = attacker.looked_up();
    CHECK_FALSE(queue.pop(taken));
    CHECK(std::string{queue.broken_reason()} == "a descriptor chain has too many pieces");
    CHECK(taken.readable.capacity() + taken.writable.capacity() <= 4 * Queue::max_chain);
    CHECK(attacker.looked_up() - before <= Queue::max_chain + 16);
}

TEST_CASE("the largest request of a disk, mapped page by page, is served") {
    Attacker attacker{64, Attacker::Lie::side_by_side};
    fakes::VirtqueueDriver driver{attacker.world.ram, 512};
    Queue queue{attacker.memory, driver.layout, false};
    const auto hold = attacker.memory.hold();
    REQUIRE(queue.refresh());
    auto chain = driver.chain().raw({0x1000, 16, false});
    for (unsigned i = 0; i < 254; ++i)
        chain.raw({far * page, 256 * 1024, true});
    chain.raw({0x2000, 1, true}).post();
    Chain taken;
    REQUIRE(queue.pop(taken));
    CHECK(Chain::bytes(taken.writable) == 254 * 256 * 1024 + 1);
    CHECK(taken.work == 256 + 254 * 64 + 2); // for descriptors and mappings
}

TEST_CASE("256 requests of 4 GiB over a million mappings leave a disk's loop and its memory alone") {
    Attacker attacker{most, Attacker::Lie::scattered};
    const fakes::TempImage image{MiB};
    EventLoop loop;
    const auto block = *Block::create({.id = "disk0", .path = image.path()}, loop);
    fakes::VirtqueueDriver driver{attacker.world.ram, 256};
    fakes::RecordingNotifier notifier;
    std::vector<std::optional<Queue>> queues;
    queues.emplace_back(std::in_place, attacker.memory, driver.layout, false);
    block->activate(attacker.memory, std::move(queues), feature::version_1 | feature::access_platform, notifier);
    for (std::uint16_t i = 0; i < 256; ++i) {
        driver.set_descriptor(i, far * page, 0xffff0000, 2, 0);
        driver.make_available(i);
    }
    const std::uint64_t before = attacker.looked_up();
    block->kick(0);
    CHECK(attacker.looked_up() - before <= Queue::max_chain + 16);
    CHECK(notifier.broken == 1);
    block->reset();
}

TEST_CASE("an unusually long request's memory is given back") {
    Chain chain;
    chain.readable.resize(16);
    chain.writable.resize(1000);
    chain.clear();
    CHECK(chain.readable.empty());
    CHECK(chain.readable.capacity() >= 16);
    CHECK(chain.writable.capacity() == 0);
}

TEST_CASE("a turn ends when its work is done, however few requests that was") {
    Attacker attacker{64, Attacker::Lie::side_by_side};
    fakes::VirtqueueDriver driver{attacker.world.ram, 256};
    for (unsigned i = 0; i < 100; ++i) { // an indirect table of 250 buffers over 64 mappings each: 16250 of work
        attacker.world.ram.next = 0x200000 + i % 50 * 0x1000;
        auto chain = driver.chain();
        for (unsigned n = 0; n < 250; ++n)
            chain.raw({far * page, 256 * 1024, true});
        chain.post(true);
    }
    Queue queue{attacker.memory, driver.layout, false};
    const auto hold = attacker.memory.hold();
    REQUIRE(queue.refresh());
    Chain chain;
    unsigned handled = 0;
    const auto served = serve(queue, chain, 1000, [&](Chain&) { return ++handled, true; });
    CHECK(served == Served::more);
    CHECK(handled <= 2);
    CHECK(chain.readable.capacity() + chain.writable.capacity() <= 128);
    // A handler's own work is counted in the same way.
    handled = 0;
    CHECK(serve(queue, chain, 1000, [&](Chain& one) {
              one.work = Turn::most_work / 4;
              return ++handled, true;
          }) == Served::more);
    CHECK(handled <= 4);
}

TEST_CASE("what a guest asks of the loop again and again waits there once") {
    struct Asked {
        Later later{};
        int runs{0};
    };
    EventLoop loop;
    auto asked = std::make_shared<Asked>();
    for (int i = 0; i < 1000; ++i)
        for (const unsigned which : {0U, 63U})
            asked->later.post(loop, which, std::weak_ptr{asked}, [](Asked& device) { ++device.runs; });
    tests::turn(loop);
    CHECK(asked->runs == 2);
    // Work that is asked for while the old one runs is new.
    asked->later.post(loop, 5, std::weak_ptr{asked}, [&loop, &asked](Asked& device) {
        device.later.post(loop, 5, std::weak_ptr{asked}, [](Asked& other) { ++other.runs; });
    });
    tests::turn(loop);
    CHECK(asked->runs == 3);
    asked->later.post(loop, 1, std::weak_ptr{asked}, [](Asked&) { FAIL("it is gone"); });
    asked.reset();
    tests::turn(loop);
}

namespace {

/// Activates and resets the device while the loop does not run; returns how many kicks that causes.
template <class D> std::uint64_t kicks_of_a_storm(D& device, EventLoop& loop, fakes::VirtioDriver& driver) {
    for (int i = 0; i < 300; ++i) {
        driver.activate(device, 0);
        device.reset();
    }
    driver.activate(device, 0);
    const auto before = device.counters().kicks.load();
    tests::turn(loop);
    tests::turn(loop);
    return device.counters().kicks - before;
}

} // namespace

TEST_CASE("drivers that come and go do not make the loop's list grow") {
    EventLoop loop;
    fakes::VirtioDriver driver;
    const auto console = *Console::create({}, loop, [](std::span<const std::byte> bytes) { return bytes.size(); });
    CHECK(kicks_of_a_storm(*console, loop, driver) <= 2);
    const auto balloon = *Balloon::create({}, loop, driver.ram.memory);
    CHECK(kicks_of_a_storm(*balloon, loop, driver) <= 4);
    console->reset();
    balloon->reset();
}

TEST_CASE("a command reaches the loop after one turn, whatever waits in a queue") {
    EventLoop loop;
    fakes::VirtioDriver driver;
    SECTION("random bytes in pieces of one byte") {
        const auto rng = *Entropy::create({}, loop);
        driver.activate(*rng, 0);
        for (unsigned i = 0; i < 250; ++i) {
            driver.ram.next = 0x400000 + i % 8 * 0x8000;
            auto chain = driver[0].chain();
            for (unsigned n = 0; n < 1000; ++n)
                chain.raw({0x800000 + n * 2, 1, true});
            chain.post(true);
        }
        rng->kick(0);
        unsigned answered = 0;
        while (driver[0].used())
            ++answered;
        CHECK(answered <= 2);
        CHECK(tests::run_until(loop, [&] {
            while (driver[0].used())
                ++answered;
            return answered == 250;
        }));
        rng->reset();
    }
    SECTION("output in pieces of one byte") {
        unsigned calls = 0;
        const auto console = *Console::create({}, loop, [&](std::span<const std::byte> bytes) {
            ++calls;
            return bytes.size();
        });
        driver.activate(*console, 0);
        tests::turn(loop);
        for (unsigned i = 0; i < 60; ++i) {
            driver.ram.next = 0x400000 + i % 8 * 0x8000;
            auto chain = driver[1].chain();
            for (unsigned n = 0; n < 1000; ++n)
                chain.raw({0x800000 + n * 2, 1, false});
            chain.post(true);
        }
        console->kick(1);
        CHECK(calls <= 2000);
        CHECK(tests::run_until(loop, [&] { return calls == 60'000; }));
        console->reset();
    }
    SECTION("input for buffers behind long chains") {
        const auto console = *Console::create({}, loop, [](std::span<const std::byte> bytes) { return bytes.size(); });
        driver.activate(*console, 0);
        unsigned room = 0;
        console->on_input_room([&] { ++room; });
        tests::turn(loop);
        for (unsigned i = 0; i < 60; ++i) {
            driver.ram.next = 0x400000 + i % 8 * 0x8000;
            auto chain = driver[0].chain();
            for (unsigned n = 0; n < 1000; ++n)
                chain.raw({0x800000 + n * 2, 1, false});
            chain.raw({0x900000, 1, true}).post(true);
        }
        room = 0;
        const std::string input(100, 'i');
        const auto bytes = std::as_bytes(std::span{input});
        std::size_t taken = console->receive(bytes);
        CHECK(taken <= 17); // 1000 of work each
        tests::turn(loop);
        CHECK(room != 0); // the device asked for the rest
        CHECK(tests::run_until(loop, [&] { return (taken += console->receive(bytes.subspan(taken))) >= 60; }));
        console->reset();
    }
}

} // namespace inox::virtio_limits_test
