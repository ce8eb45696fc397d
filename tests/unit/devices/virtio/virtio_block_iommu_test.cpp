// SPDX-License-Identifier: Apache-2.0
// A disk behind the guest's IOMMU, with an engine that finishes a request only when told. Taking memory away waits for
// the requests that use it and for nothing else, and nothing blocks meanwhile.
#include "devices/virtio/block/block.hpp"
#include "devices/virtio/iommu.hpp"
#include "devices/virtio/transport.hpp"
#include "iommu/domains.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/fake_block_engine.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/log.hpp"

namespace inox::virtio_block_iommu_test {

using namespace devices::virtio;
using namespace std::chrono_literals;
using iommu::Status;
namespace wire = iommu::wire;

namespace {

constexpr std::uint64_t page = page_size;
constexpr std::uint32_t disk_id = 0x20;
constexpr std::uint32_t net_id = 0x28;
constexpr std::uint64_t buffers = 0x400000; ///< page n of the disk's buffers is mapped alone, 1:1
constexpr std::uint64_t elsewhere = 0x800000;
constexpr int ok = VIRTIO_BLK_S_OK;
constexpr int untouched = 0xee;

struct Rig {
    using Pieces = std::vector<fakes::VirtqueueDriver::Piece>;
    using Used = std::optional<fakes::VirtqueueDriver::Used>;

    fakes::TempImage image{MiB};
    EventLoop loop{};
    fakes::VirtioDriver driver{}; ///< of the IOMMU; its memory is the guest's
    iommu::Domains domains{driver.ram.memory, {}, false};
    std::unique_ptr<iommu::EndpointMemory> memory{domains.make_memory()};
    std::unique_ptr<iommu::EndpointMemory> net_memory{domains.make_memory()};
    std::vector<Registration> stays{};
    std::shared_ptr<Iommu> device;
    fakes::FakeBlockEngine* engine{};
    std::shared_ptr<Block> block{};
    fakes::RecordingNotifier notifier{};
    std::unique_ptr<fakes::VirtqueueDriver> ring{};
    unsigned sent{0}; ///< requests to the IOMMU, two descriptors each

    explicit Rig(std::chrono::milliseconds patience = 1h) : device{Iommu::create(domains, loop, nullptr, patience)} {
        log::set_level(log::Level::off);
        stays.push_back(*domains.add_endpoint(iommu::EndpointId{disk_id}, "disk", *memory));
        stays.push_back(*domains.add_endpoint(iommu::EndpointId{net_id}, "net", *net_memory));
        driver.activate(*device, wire::feature::map_unmap | wire::feature::probe | wire::feature::bypass_config |
                                     feature::version_1);
        auto made = std::make_unique<fakes::FakeBlockEngine>();
        engine = made.get();
        block = *Block::create({.id = "disk0", .path = image.path()}, loop, std::move(made));
        ring = std::make_unique<fakes::VirtqueueDriver>(driver.ram, 64);
        REQUIRE(ask(attach(1, disk_id)) == Status::ok);
        REQUIRE(ask(map(1, 0, 0x3ff, 0)) == Status::ok); // the rings
        for (std::uint64_t n = 0; n < 8; ++n)
            REQUIRE(ask(map(1, buffers / page + n, buffers / page + n, buffers / page + n)) == Status::ok);
        activate();
    }
    ~Rig() {
        if (block)
            block->reset();
        device->reset();
        tests::turn(loop);
        log::set_level(log::Level::warning);
    }
    void activate() {
        std::vector<std::optional<Queue>> queues;
        queues.emplace_back(Queue{*memory, ring->layout, false});
        block->activate(*memory, std::move(queues), block->features() | feature::version_1 | feature::access_platform,
                        notifier);
    }

    template <class T> static T typed(T request, wire::Type type) {
        request.head.type = static_cast<std::uint8_t>(type);
        return request;
    }
    static wire::Attach attach(std::uint32_t domain, std::uint32_t endpoint) {
        return typed(wire::Attach{{}, domain, endpoint, 0, 0}, wire::Type::attach);
    }
    static wire::Detach detach(std::uint32_t domain, std::uint32_t endpoint) {
        return typed(wire::Detach{{}, domain, endpoint, {}}, wire::Type::detach);
    }
    static wire::Map map(std::uint32_t domain, std::uint64_t first, std::uint64_t last, std::uint64_t physical) {
        return typed(wire::Map{{}, domain, first * page, last * page + page - 1, physical * page, 3}, wire::Type::map);
    }
    static wire::Unmap unmap(std::uint64_t n, std::uint64_t count = 1) {
        const std::uint64_t start = buffers + n * page;
        return typed(wire::Unmap{{}, 1, start, start + count * page - 1, 0}, wire::Type::unmap);
    }
    /// Sends a request; returns where its answer will be. The kick returns at once, whatever is in flight.
    template <class T> std::uint64_t send(const T& request) {
        const auto pieces = driver[0].chain().readable(request).writable(4).post();
        driver.ram.put(pieces[1].address, std::uint8_t{0xff});
        ++sent;
        const auto start = std::chrono::steady_clock::now();
        device->kick(0);
        CHECK(std::chrono::steady_clock::now() - start < 2s);
        return pieces[1].address;
    }
    std::optional<Status> answer(std::uint64_t at) {
        tests::turn(loop);
        const auto value = driver.ram.get<std::uint8_t>(at);
        return value == 0xff ? std::nullopt : std::optional{static_cast<Status>(value)};
    }
    /// The status, if it was written during the kick.
    template <class T> std::optional<Status> ask(const T& request) {
        const auto at = send(request);
        const auto used = driver[0].used();
        return used ? std::optional{static_cast<Status>(driver.ram.get<std::uint8_t>(at))} : std::nullopt;
    }
    bool answer_is_told() { return driver[0].used().has_value(); }

    /// Data at the start of page `data` of the buffers, the status byte at the end of page `status`.
    Pieces post(std::uint32_t type, std::uint64_t data, std::uint64_t status) {
        auto chain = ring->chain();
        chain.readable(fakes::Disk::header(type, 0));
        if (type == VIRTIO_BLK_T_DISCARD)
            chain.readable(fakes::Disk::range(0, 8));
        else if (type != VIRTIO_BLK_T_FLUSH)
            chain.raw({buffers + data * page, 512, type == VIRTIO_BLK_T_IN});
        const auto pieces = chain.raw({buffers + status * page + page - 1, 1, true}).post();
        driver.ram.put(pieces.back().address, std::uint8_t{untouched});
        block->kick(0);
        return pieces;
    }
    int status(const Pieces& pieces) { return driver.ram.get<std::uint8_t>(pieces.back().address); }
    void finish(std::size_t index) {
        engine->finish(index, 0);
        tests::turn(loop);
    }
};

} // namespace

TEST_CASE("behind an IOMMU requests stay under way when the kick is over") {
    Rig rig;
    const auto pieces = rig.post(VIRTIO_BLK_T_IN, 0, 1);
    CHECK(rig.engine->waiting.size() == 1);
    rig.finish(0);
    CHECK(rig.status(pieces) == ok);
    CHECK(rig.ring->used());
}

TEST_CASE("an unmap waits for exactly the requests that use its range, and not for a flush") {
    Rig rig;
    rig.post(VIRTIO_BLK_T_IN, 0, 1);
    rig.post(VIRTIO_BLK_T_OUT, 2, 1);
    const auto flush = rig.post(VIRTIO_BLK_T_FLUSH, 0, 3);
    const auto discard = rig.post(VIRTIO_BLK_T_DISCARD, 0, 3);
    REQUIRE(rig.engine->waiting.size() == 4);
    CHECK(rig.ask(Rig::unmap(4)) == Status::ok); // no request uses it
    const auto data = rig.send(Rig::unmap(0));
    CHECK_FALSE(rig.answer(data));
    const auto written = rig.send(Rig::unmap(2));
    CHECK(rig.ask(Rig::unmap(3)) == Status::ok); // used by the flush and the discard
    rig.finish(1);
    CHECK(rig.answer(written) == Status::ok);
    CHECK(rig.answer_is_told());
    CHECK_FALSE(rig.answer(data));
    CHECK_FALSE(rig.answer_is_told());
    rig.finish(0);
    CHECK(rig.answer(data) == Status::ok);
    CHECK(rig.answer_is_told());
    // A request that needs no memory until its end finds its status byte unmapped at the end.
    rig.finish(0);
    rig.finish(0);
    CHECK(rig.status(flush) == untouched);
    CHECK(rig.status(discard) == untouched);
    CHECK(rig.block->counters().bad_requests == 2);
    CHECK(rig.notifier.broken == 0);
}

TEST_CASE("one unmap over several requests waits for the last of them") {
    Rig rig;
    for (std::uint64_t n = 0; n < 3; ++n)
        rig.post(VIRTIO_BLK_T_IN, n, 6);
    const auto all = rig.send(Rig::unmap(0, 4));
    for (int n = 0; n < 3; ++n) {
        CHECK_FALSE(rig.answer(all));
        rig.finish(0);
    }
    CHECK(rig.answer(all) == Status::ok);
}

TEST_CASE("a page that is mapped again before the unmap is answered is another page") {
    Rig rig;
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    const auto first = rig.send(Rig::unmap(0));
    REQUIRE(rig.ask(Rig::map(1, buffers / page, buffers / page, elsewhere / page)) == Status::ok);
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    REQUIRE(rig.engine->waiting.size() == 2);
    CHECK(rig.engine->waiting[0]->data->at(0).iov_base != rig.engine->waiting[1]->data->at(0).iov_base);
    CHECK_FALSE(rig.answer(first));
    rig.finish(0);
    CHECK(rig.answer(first) == Status::ok); // the second request is still in flight
    const auto second = rig.send(Rig::unmap(0));
    CHECK_FALSE(rig.answer(second));
    rig.finish(0);
    CHECK(rig.answer(second) == Status::ok);
}

TEST_CASE("an unmap that finds nothing waits for the I/O of the unmap before") {
    Rig rig;
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    const auto first = rig.send(Rig::unmap(0));
    const auto second = rig.send(Rig::unmap(0));
    CHECK_FALSE(rig.answer(second));
    rig.finish(0);
    CHECK(rig.answer(first) == Status::ok);
    CHECK(rig.answer(second) == Status::ok);
}

TEST_CASE("a detach and a move to another domain wait for the endpoint's I/O, and so does an unmap after them") {
    const bool moves = GENERATE(false, true);
    Rig rig;
    REQUIRE(rig.ask(Rig::attach(1, net_id)) == Status::ok); // keeps the domain
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    const auto left = moves ? rig.send(Rig::attach(2, disk_id)) : rig.send(Rig::detach(1, disk_id));
    CHECK_FALSE(rig.answer(left));
    const auto unmapped = rig.send(Rig::unmap(0));
    CHECK_FALSE(rig.answer(unmapped));
    CHECK(rig.ask(Rig::unmap(1)) == Status::ok);
    CHECK(rig.ask(Rig::map(1, buffers / page + 1, buffers / page + 1, 5)) == Status::ok);
    rig.finish(0);
    CHECK(rig.answer(left) == Status::ok);
    CHECK(rig.answer(unmapped) == Status::ok);
}

TEST_CASE("an unmap waits for the I/O of an endpoint that was taken out") {
    Rig rig;
    REQUIRE(rig.ask(Rig::attach(1, net_id)) == Status::ok);
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    rig.stays.erase(rig.stays.begin());
    const auto unmapped = rig.send(Rig::unmap(0));
    CHECK_FALSE(rig.answer(unmapped));
    CHECK(rig.ask(Rig::unmap(1)) == Status::ok);
    rig.finish(0);
    CHECK(rig.answer(unmapped) == Status::ok);
}

TEST_CASE("an attach from the bypass waits for what went through it") {
    Rig rig;
    REQUIRE(rig.ask(Rig::detach(1, disk_id)) == Status::ok);
    rig.domains.set_bypass(true);
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    REQUIRE(rig.engine->waiting.size() == 1);
    const auto attached = rig.send(Rig::attach(1, disk_id));
    CHECK_FALSE(rig.answer(attached));
    rig.finish(0);
    CHECK(rig.answer(attached) == Status::ok);
}

TEST_CASE("the reset of the IOMMU is not done before the I/O through it is") {
    Rig rig;
    fakes::RecordingNotifier notifier;
    TransportCore transport{rig.device, rig.driver.ram.direct, notifier, false};
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    const auto unmapped = rig.send(Rig::unmap(0));
    transport.set_status(status::acknowledge);
    transport.set_status(0);
    CHECK(transport.status() != 0);
    tests::turn(rig.loop);
    CHECK(transport.status() != 0);
    rig.finish(0);
    tests::turn(rig.loop);
    CHECK(transport.status() == 0);
    CHECK_FALSE(rig.answer(unmapped)); // the answer is dropped
}

TEST_CASE("more late answers than a ring has entries wait in the ring, and come in the end") {
    Rig rig;
    rig.post(VIRTIO_BLK_T_IN, 0, 6);
    rig.send(Rig::unmap(0));
    // The same chain is made available again and again, by a driver that lies about what is outstanding.
    constexpr unsigned lies = 400;
    const auto head = static_cast<std::uint16_t>(2 * (rig.sent - 1));
    for (unsigned n = 0; n < lies; ++n) {
        rig.driver[0].make_available(head);
        if (n % 100 == 99)
            rig.device->kick(0);
    }
    tests::turn(rig.loop);
    CHECK_FALSE(rig.answer_is_told());
    rig.finish(0);
    unsigned told = 0;
    CHECK(tests::run_until(rig.loop, [&] {
        while (rig.answer_is_told())
            ++told;
        return told == lies + 1;
    }));
    CHECK(rig.device->counters().broken_rings == 0);
}

TEST_CASE("past the deadline the I/O is cancelled, its disk breaks, and the unmap is answered") {
    Rig rig{50ms};
    const auto read = rig.post(VIRTIO_BLK_T_IN, 0, 6);
    const auto flush = rig.post(VIRTIO_BLK_T_FLUSH, 0, 5);
    const auto unmapped = rig.send(Rig::unmap(0));
    CHECK_FALSE(rig.answer(unmapped));
    CHECK(tests::run_until(rig.loop, [&] { return rig.notifier.broken == 1; }));
    CHECK(rig.engine->cancels == 1);
    CHECK(tests::run_until(rig.loop, [&] { return rig.driver.ram.get<std::uint8_t>(unmapped) != 0xff; }));
    CHECK(rig.answer(unmapped) == Status::ok);
    CHECK(rig.status(read) == untouched);
    CHECK(rig.engine->waiting.size() == 1); // the flush
    // No new request is accepted until the driver resets the disk; then it works.
    rig.post(VIRTIO_BLK_T_OUT, 2, 6);
    CHECK(rig.engine->waiting.size() == 1);
    rig.block->reset();
    CHECK_FALSE(rig.block->resetting());
    rig.ring = std::make_unique<fakes::VirtqueueDriver>(rig.driver.ram, 64);
    rig.activate();
    const auto written = rig.post(VIRTIO_BLK_T_OUT, 2, 6);
    REQUIRE(rig.engine->waiting.size() == 1);
    rig.finish(0);
    CHECK(rig.status(written) == ok);
    CHECK(rig.status(flush) == untouched);
}

TEST_CASE("I/O that cannot be cancelled keeps its memory: the unmap is answered at its end, and nobody else waits") {
    Rig rig{20ms};
    rig.engine->stubborn = true;
    const auto read = rig.post(VIRTIO_BLK_T_IN, 0, 6);
    const auto unmapped = rig.send(Rig::unmap(0));
    CHECK(tests::run_until(rig.loop, [&] { return rig.engine->cancels > 1; }));
    CHECK(rig.notifier.broken == 1);
    CHECK_FALSE(rig.answer(unmapped));
    CHECK(rig.ask(Rig::unmap(4)) == Status::ok);
    // Not even a reset of the disk ends the request, and the driver can see that.
    fakes::RecordingNotifier notifier;
    TransportCore transport{rig.block, *rig.memory, notifier, true};
    const auto start = std::chrono::steady_clock::now();
    transport.set_status(status::acknowledge);
    transport.set_status(0);
    CHECK(std::chrono::steady_clock::now() - start < 2s);
    CHECK(transport.status() != 0);
    CHECK_FALSE(rig.answer(unmapped));
    rig.finish(0);
    CHECK(rig.answer(unmapped) == Status::ok);
    CHECK(transport.status() == 0);
    CHECK(rig.status(read) == untouched);
}

TEST_CASE("a reset does not wait for a flush, nor does the end of a disk, which stays until it is over") {
    Rig rig;
    rig.engine->stubborn = true;
    rig.post(VIRTIO_BLK_T_FLUSH, 0, 5);
    fakes::FakeBlockEngine& engine = *rig.engine;
    rig.block->reset();
    CHECK_FALSE(rig.block->resetting());
    const std::weak_ptr<Block> alive{rig.block};
    rig.block.reset();
    CHECK_FALSE(alive.expired());
    engine.finish(0, 0);
    CHECK(tests::run_until(rig.loop, [&] { return alive.expired(); }));
}

} // namespace inox::virtio_block_iommu_test
