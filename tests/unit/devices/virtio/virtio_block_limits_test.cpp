// SPDX-License-Identifier: Apache-2.0
// Limits of a disk's work: what its rate limits let pass, in which pieces, and how long a turn of the loop is.
#include <fcntl.h>
#include <time.h>

#include <chrono>
#include <thread>

#include "devices/virtio/block/file.hpp"
#include "devices/virtio/block/worker.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/fake_block_engine.hpp"

namespace inox::virtio_block_limits_test {

using devices::BucketLimits;
using devices::RateLimits;
using devices::virtio::BlockEngine;
using devices::virtio::BlockEngineKind;
using devices::virtio::BlockJob;
using devices::virtio::BlockJobKind;
using fakes::Disk;
using fakes::FakeBlockEngine;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int ok = VIRTIO_BLK_S_OK;
constexpr std::uint64_t mib = MiB;

std::unique_ptr<FakeBlockEngine> instant() {
    auto engine = std::make_unique<FakeBlockEngine>();
    engine->finish_at_once = true;
    return engine;
}

std::uint32_t sectors(std::uint64_t bytes) { return static_cast<std::uint32_t>(bytes / 512); }

/// CPU time of the calling thread.
std::chrono::nanoseconds thread_time() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

/// An engine in which a submission takes long, like one that copies from the page cache.
class SlowEngine final : public BlockEngine {
public:
    [[nodiscard]] std::span<const int> ready_fds() const override { return {}; }
    void submit(BlockJob& job) noexcept override {
        std::this_thread::sleep_for(1ms);
        finished_.push_back(&job);
    }
    BlockJob* take_finished() noexcept override {
        if (finished_.empty())
            return nullptr;
        BlockJob* job = finished_.back();
        finished_.pop_back();
        return job;
    }
    [[nodiscard]] bool stalled() const noexcept override { return false; }
    void cancel(BlockJob&) noexcept override {}

private:
    std::vector<BlockJob*> finished_{};
};

} // namespace

TEST_CASE("discards and zeroes pass the bandwidth, in pieces") {
    const auto type = GENERATE(std::uint32_t{VIRTIO_BLK_T_DISCARD}, std::uint32_t{VIRTIO_BLK_T_WRITE_ZEROES});
    auto made = instant();
    FakeBlockEngine& engine = *made;
    Disk disk{{.limits = {BucketLimits{mib, 0, 20ms}, {}}}, 64 * mib, std::move(made)};
    const auto start = Clock::now();
    CHECK(disk.request(type, 0, Disk::range(1, sectors(16 * mib)), 0).status == ok);
    // The first bucket is full; the other 15 take 20 ms each.
    CHECK(Clock::now() - start > 0.9 * 15 * 20ms);
    CHECK(Clock::now() - start < 15 * 20ms + 3s);
    disk.on_loop([&] {
        std::uint64_t at = 512;
        CHECK(engine.seen.size() > 15);
        for (const auto& seen : engine.seen) {
            CHECK(seen.offset == at);
            CHECK(seen.length <= mib);
            at += seen.length;
        }
        CHECK(at == 512 + 16 * mib);
    });
    CHECK(disk.block->block_counters().throttled >= 15);
    CHECK(disk.block->block_counters().discards == 1);
}

TEST_CASE("without a limit a large range is a few pieces, and all of it is done") {
    auto made = instant();
    FakeBlockEngine& engine = *made;
    Disk disk{{}, 512 * mib, std::move(made)};
    const auto ranges = Disk::range(8, sectors(100 * mib)) + Disk::range(sectors(256 * mib), sectors(64 * mib));
    CHECK(disk.request(VIRTIO_BLK_T_DISCARD, 0, ranges, 0).status == ok);
    disk.on_loop([&] {
        std::uint64_t sum = 0;
        for (const auto& seen : engine.seen)
            sum += seen.length;
        CHECK(sum == 164 * mib);
        CHECK(engine.seen.size() == 4 + 2);
    });
}

TEST_CASE("a read does not wait for the pieces of a large discard") {
    Disk disk{{.limits = {BucketLimits{mib, 0, 20ms}, {}}}, 128 * mib, instant()};
    const auto discard = disk.post(VIRTIO_BLK_T_DISCARD, 0, Disk::range(0, sectors(100 * mib)), 0);
    const auto read = disk.post(VIRTIO_BLK_T_IN, 0, "", 512);
    disk.kick();
    REQUIRE(disk.wait_used());
    CHECK(disk.answer_of(read, 0).status == ok);
    CHECK(disk.answer_of(discard, 0).status == 0xee);
    // After a reset, the remaining pieces are not done.
    disk.block->reset();
    disk.activate();
    disk.on_loop([&] { disk.block->update_limits({BucketLimits{0, 0, 0ms}, {}}); });
    CHECK(disk.read(0, 512).status == ok);
    CHECK(disk.block->block_counters().discards == 0);
}

TEST_CASE("every kind of request is an operation, a refused one too") {
    struct Row {
        std::uint32_t type;
        std::string out;
        std::uint32_t in;
    };
    const auto row = GENERATE(values<Row>({{VIRTIO_BLK_T_IN, "", 512},
                                           {VIRTIO_BLK_T_OUT, std::string(512, 'w'), 0},
                                           {VIRTIO_BLK_T_FLUSH, "", 0},
                                           {VIRTIO_BLK_T_GET_ID, "", 20},
                                           {VIRTIO_BLK_T_DISCARD, Disk::range(0, 8), 0},
                                           {VIRTIO_BLK_T_WRITE_ZEROES, Disk::range(0, 8), 0},
                                           {77, "", 512}}));
    CAPTURE(row.type);
    Disk disk{{.limits = {{}, BucketLimits{2, 0, 1h}}}, mib, instant()};
    for (int i = 0; i < 3; ++i)
        disk.post(row.type, 0, row.out, row.in);
    disk.kick();
    CHECK(disk.wait_used());
    CHECK(disk.wait_used());
    std::this_thread::sleep_for(20ms);
    CHECK_FALSE(disk.on_loop([&] { return disk.drivers[0]->used(); }));
    CHECK(disk.block->block_counters().throttled > 0);
}

TEST_CASE("a chain gives back what only an unusually long request needed") {
    devices::virtio::Chain chain;
    for (const std::size_t pieces : {std::size_t{1000}, std::size_t{8}}) {
        chain.readable.resize(pieces);
        chain.writable.resize(pieces);
        chain.addresses.assign(pieces, Range<Iova>::full());
        chain.clear();
        for (const std::size_t kept :
             {chain.readable.capacity(), chain.writable.capacity(), chain.addresses.capacity()})
            CHECK((pieces == 8 ? kept == 8 : kept == 0));
    }
}

TEST_CASE("pieces are no operations of their own") {
    Disk disk{{.limits = {BucketLimits{64 * mib, 0, 1h}, BucketLimits{1, 0, 1h}}}, 64 * mib, instant()};
    CHECK(disk.request(VIRTIO_BLK_T_DISCARD, 0, Disk::range(0, sectors(16 * mib)), 0).status == ok);
}

TEST_CASE("one turn is short, whatever a request costs, and the loop's other work comes between") {
    Disk disk{{}, mib, std::make_unique<SlowEngine>()};
    constexpr unsigned requests = 40;
    for (unsigned i = 0; i < requests; ++i)
        disk.post(VIRTIO_BLK_T_FLUSH, 0, "", 0);
    std::atomic<unsigned> others{0};
    unsigned done = 0;
    const auto first_turn = disk.on_loop([&] {
        disk.loop.post([&] { ++others; });
        const auto start = Clock::now();
        disk.block->kick(0);
        const auto took = Clock::now() - start;
        while (disk.drivers[0]->used())
            ++done;
        return took;
    });
    CHECK(first_turn < requests * 1ms / 2);
    CHECK(done < requests / 2);
    for (; done < requests; ++done)
        REQUIRE(disk.wait_used());
    CHECK(others == 1);
}

TEST_CASE("what has to reach storage leaves the calling thread, with either engine") {
    const auto kind = GENERATE(BlockEngineKind::sync, BlockEngineKind::automatic);
    fakes::TempImage image{64 * mib};
    const auto file =
        std::make_shared<const devices::virtio::BlockFile>(*devices::virtio::BlockFile::open(image.path(), false));
    const auto engine = *devices::virtio::create_block_engine(kind, "disk");
    std::vector<std::byte> bytes(32 * mib, std::byte{1});
    std::vector<iovec> data{{bytes.data(), bytes.size()}};
    const auto began = thread_time();
    const std::vector<std::byte> copy{bytes};
    const auto copying = thread_time() - began;
    BlockJob write;
    write.kind = BlockJobKind::write;
    write.durable = true;
    write.file = file;
    write.length = bytes.size();
    write.data = &data;
    BlockJob flush;
    flush.file = file;
    const auto before = thread_time();
    engine->submit(write);
    engine->submit(flush);
    CHECK(thread_time() - before < copying / 2); // somebody else copies them to the page cache
    const auto end = Clock::now() + 60s;
    unsigned finished = 0;
    while (finished < 2 && Clock::now() < end) {
        if (const BlockJob* job = engine->take_finished()) {
            ++finished;
            CHECK(job->error == 0);
        } else {
            std::this_thread::sleep_for(1ms);
        }
    }
    REQUIRE(finished == 2);
    CHECK(image.bytes(32 * mib - 1, 1) == "\1");
}

TEST_CASE("a worker gives back what was cancelled before it began") {
    fakes::TempImage image{64 * mib};
    const auto file =
        std::make_shared<const devices::virtio::BlockFile>(*devices::virtio::BlockFile::open(image.path(), false));
    const auto worker = *devices::virtio::BlockWorker::create();
    std::vector<std::byte> bytes(32 * mib, std::byte{1});
    std::vector<iovec> data{{bytes.data(), bytes.size()}};
    BlockJob first;
    first.kind = BlockJobKind::write;
    first.durable = true;
    first.file = file;
    first.length = bytes.size();
    first.data = &data;
    BlockJob second;
    second.file = file;
    worker->submit(first);
    worker->submit(second);
    REQUIRE(worker->cancel(second));
    CHECK_FALSE(worker->cancel(second));
    CHECK(worker->take_finished() == &second);
    CHECK(second.error == ECANCELED);
    const auto end = Clock::now() + 60s;
    BlockJob* last = nullptr;
    while (!last && Clock::now() < end) {
        last = worker->take_finished();
        std::this_thread::sleep_for(1ms);
    }
    CHECK(last == &first);
}

} // namespace inox::virtio_block_limits_test
