// SPDX-License-Identifier: Apache-2.0
// How the device uses its engine, and how it handles errors and late answers.
#include "devices/virtio/block/engine.hpp"

#include <cerrno>

#include "devices/virtio/block/file.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/fake_block_engine.hpp"
#include "tests/support/log_capture.hpp"

namespace inox::virtio_block_engine_test {

using devices::virtio::BlockCache;
using devices::virtio::BlockConfig;
using devices::virtio::BlockEngine;
using devices::virtio::BlockJob;
using devices::virtio::BlockJobKind;
using devices::virtio::BlockOptions;
using fakes::Disk;
using fakes::FakeBlockEngine;
namespace feature = devices::virtio::block_feature;

namespace {

constexpr int ok = VIRTIO_BLK_S_OK;
constexpr int io_error = VIRTIO_BLK_S_IOERR;

struct FakedDisk {
    explicit FakedDisk(BlockOptions options = {}) : disk{std::move(options), MiB, take()} {}

    std::unique_ptr<BlockEngine> take() {
        auto made = std::make_unique<FakeBlockEngine>();
        engine = made.get();
        return made;
    }
    void instant(int error = 0) {
        disk.on_loop([&] {
            engine->finish_at_once = true;
            engine->error = error;
        });
    }
    void finish(std::size_t index, int error = 0) {
        disk.on_loop([&] { engine->finish(index, error); });
    }
    std::size_t waiting() {
        return disk.on_loop([&] { return engine->waiting.size(); });
    }
    std::vector<FakeBlockEngine::Seen> seen() {
        return disk.on_loop([&] { return std::exchange(engine->seen, {}); });
    }
    int status_of(const Disk::Pieces& pieces) { return disk.answer_of(pieces, 0).status; }

    FakeBlockEngine* engine{nullptr};
    Disk disk;
};

const std::string sector(512, 'w');

} // namespace

TEST_CASE("requests may finish in any order, and each gets its own answer") {
    FakedDisk faked;
    Disk& disk = faked.disk;
    const auto first = disk.post(VIRTIO_BLK_T_IN, 1, "", 512);
    const auto second = disk.post(VIRTIO_BLK_T_OUT, 2, sector, 0);
    disk.kick();
    CHECK(faked.waiting() == 2);
    CHECK_FALSE(disk.on_loop([&] { return disk.drivers[0]->used(); }));
    faked.finish(1);
    CHECK(disk.wait_used()->length == 1);
    CHECK(faked.status_of(second) == ok);
    CHECK(faked.status_of(first) == 0xee);
    faked.finish(0, EIO);
    CHECK(disk.wait_used()->length == 513);
    CHECK(faked.status_of(first) == io_error);
}

TEST_CASE("a full disk under a write is an I/O error for the guest, and the log names the image") {
    const tests::LogCapture log;
    FakedDisk faked;
    faked.instant(ENOSPC);
    for (int i = 0; i < 100; ++i)
        CHECK(faked.disk.write(0, sector).status == io_error);
    CHECK(faked.disk.block->block_counters().failures == 100);
    CHECK(faked.disk.block->block_counters().writes == 0);
    const auto text = log.text();
    CHECK(text.find("disk0 (virtio-blk): writing to '" + faked.disk.image.path() +
                    "' failed: No space left on device") != std::string::npos);
    CHECK(std::ranges::count(text, '\n') < 10); // 100 errors do not flood the log
}

TEST_CASE("a flush reaches stable storage, except with the unsafe cache") {
    for (const auto cache : {BlockCache::unsafe, BlockCache::writeback, BlockCache::writethrough}) {
        FakedDisk faked{{.cache = cache}};
        faked.instant();
        CHECK(faked.disk.flush().status == ok);
        const auto seen = faked.seen();
        if (cache == BlockCache::unsafe) {
            CHECK(seen.empty());
        } else {
            REQUIRE(seen.size() == 1);
            CHECK(seen[0].kind == BlockJobKind::flush);
        }
    }
}

TEST_CASE("a flush that fails is not acknowledged") {
    FakedDisk faked;
    faked.instant(EIO);
    CHECK(faked.disk.flush().status == io_error);
}

TEST_CASE("writing through makes every change durable before it is answered") {
    FakedDisk faked{{.cache = BlockCache::writethrough}};
    faked.instant();
    CHECK(faked.disk.write(0, sector).status == ok);
    CHECK(faked.disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, Disk::range(0, 1), 0).status == ok);
    const auto seen = faked.seen();
    REQUIRE(seen.size() == 3);
    CHECK(seen[0].durable);
    CHECK(seen[1].kind == BlockJobKind::write_zeroes);
    CHECK(seen[2].kind == BlockJobKind::flush);
}

TEST_CASE("the driver may turn the write cache off and on, and a reset turns it on") {
    FakedDisk faked;
    faked.instant();
    Disk& disk = faked.disk;
    constexpr auto field = offsetof(BlockConfig, writeback);
    auto durable = [&] {
        CHECK(disk.write(0, sector).status == ok);
        return faked.seen().at(0).durable;
    };
    CHECK_FALSE(durable());
    disk.block->write_config(field, std::array{std::byte{0}});
    CHECK(disk.config<std::uint8_t>(field) == 0);
    CHECK(durable());
    disk.block->write_config(field, std::array{std::byte{1}});
    CHECK_FALSE(durable());
    disk.block->write_config(field, std::array{std::byte{0}});
    disk.block->reset();
    disk.activate();
    CHECK(disk.config<std::uint8_t>(field) == 1);
    CHECK_FALSE(durable());
}

TEST_CASE("a driver that cannot flush gets durable writes") {
    FakedDisk faked;
    faked.instant();
    for (const auto without : {feature::flush | feature::config_wce, feature::flush}) {
        faked.disk.block->reset();
        faked.disk.activate(without);
        CHECK(faked.disk.write(0, sector).status == ok);
        CHECK(faked.seen().at(0).durable);
    }
    faked.disk.block->reset();
    faked.disk.activate(feature::config_wce);
    CHECK(faked.disk.write(0, sector).status == ok);
    CHECK_FALSE(faked.seen().at(0).durable);
}

TEST_CASE("the ranges of a discard are done one after the other, up to the first that fails") {
    FakedDisk faked;
    Disk& disk = faked.disk;
    const auto pieces =
        disk.post(VIRTIO_BLK_T_DISCARD, 0, Disk::range(0, 8) + Disk::range(16, 8) + Disk::range(32, 8), 0);
    disk.kick();
    CHECK(faked.waiting() == 1);
    faked.finish(0);
    disk.kick(); // collects the answer
    CHECK(faked.waiting() == 1);
    faked.finish(0, EIO);
    REQUIRE(disk.wait_used());
    CHECK(faked.status_of(pieces) == io_error);
    const auto seen = faked.seen();
    REQUIRE(seen.size() == 2);
    CHECK(seen[1].offset == 16 * 512);
}

TEST_CASE("a reset ends what is in flight and answers nothing of it") {
    FakedDisk faked;
    Disk& disk = faked.disk;
    const auto pieces = disk.post(VIRTIO_BLK_T_IN, 1, "", 512);
    disk.kick();
    CHECK(faked.waiting() == 1);
    disk.block->reset(); // as a vCPU would
    CHECK(faked.waiting() == 0);
    CHECK_FALSE(disk.on_loop([&] { return disk.drivers[0]->used(); }));
    CHECK(faked.status_of(pieces) == 0xee);
    disk.activate();
    faked.instant();
    CHECK(disk.read(0, 512).status == ok);
}

TEST_CASE("the reset of one queue ends its requests, and the other queues go on") {
    FakedDisk faked{{.queues = 2}};
    Disk& disk = faked.disk;
    disk.post(VIRTIO_BLK_T_IN, 1, "", 512, 0);
    disk.post(VIRTIO_BLK_T_IN, 1, "", 512, 1);
    disk.kick(0);
    disk.kick(1);
    CHECK(faked.waiting() == 2);
    disk.block->reset_queue(0);
    CHECK_FALSE(disk.block->resetting());
    CHECK(faked.waiting() == 1);
    faked.finish(0);
    CHECK(disk.wait_used(1));
    disk.kick(0);
    faked.instant();
    CHECK(disk.request(VIRTIO_BLK_T_IN, 0, "", 512, 1).status == ok);
}

TEST_CASE("a replacement waits for nothing: what is in flight ends on the old image, and its answers are not lost") {
    FakedDisk faked;
    Disk& disk = faked.disk;
    fakes::TempImage other{MiB};
    const auto pieces = disk.post(VIRTIO_BLK_T_OUT, 1, sector, 0);
    disk.kick();
    CHECK(disk.on_loop([&] { return disk.block->replace(other.path()); }));
    REQUIRE(faked.waiting() == 1);
    CHECK(disk.on_loop([&] { return faked.engine->waiting[0]->file->path(); }) == disk.image.path());
    CHECK_FALSE(devices::virtio::BlockFile::open(disk.image.path(), false)); // still in use
    faked.finish(0);
    CHECK(disk.wait_used());
    CHECK(faked.status_of(pieces) == ok);
    CHECK(devices::virtio::BlockFile::open(disk.image.path(), false));
    disk.post(VIRTIO_BLK_T_OUT, 1, sector, 0);
    disk.kick();
    CHECK(disk.on_loop([&] { return faked.engine->waiting[0]->file->path(); }) == other.path());
    faked.finish(0);
}

TEST_CASE("no more is in flight than the engine holds, and the rest follows") {
    FakedDisk faked{{.queues = 8}};
    Disk& disk = faked.disk;
    unsigned posted = 0;
    for (unsigned queue = 0; queue < 8; ++queue)
        for (unsigned i = 0; i < 20; ++i)
            posted += disk.post(VIRTIO_BLK_T_FLUSH, 0, "", 0, queue).empty() ? 0 : 1;
    for (unsigned queue = 0; queue < 8; ++queue)
        disk.kick(queue);
    CHECK(faked.waiting() == posted);
    // The same chain is made available again and again, by a driver that lies about what is outstanding.
    constexpr unsigned lies = 3 * 48;
    for (unsigned i = 0; i < lies; ++i) {
        disk.on_loop([&] { disk.drivers[0]->make_available(0); });
        if (i % 48 == 47)
            disk.kick();
    }
    CHECK(faked.waiting() == BlockEngine::depth);
    unsigned used = 0;
    for (unsigned i = 0; i < posted + lies; ++i) {
        faked.finish(0);
        disk.kick(); // in case the loop has not done so yet
        for (unsigned queue = 0; queue < 8; ++queue)
            while (disk.on_loop([&] { return disk.drivers[queue]->used(); }))
                ++used;
    }
    CHECK(used == posted + lies);
    CHECK(faked.waiting() == 0);
}

TEST_CASE("a slow flush keeps neither a reset nor the loop") {
    FakedDisk faked;
    Disk& disk = faked.disk;
    disk.on_loop([&] { faked.engine->stubborn = true; });
    const auto pieces = disk.post(VIRTIO_BLK_T_FLUSH, 0, "", 0);
    disk.kick();
    disk.block->reset(); // as a vCPU would
    CHECK_FALSE(disk.block->resetting());
    CHECK(faked.waiting() == 1);
    disk.activate();
    disk.post(VIRTIO_BLK_T_IN, 1, "", 512);
    disk.kick();
    REQUIRE(faked.waiting() == 2);
    faked.finish(0); // from before the reset
    faked.finish(0);
    CHECK(disk.wait_used());
    CHECK_FALSE(disk.on_loop([&] { return disk.drivers[0]->used(); }));
    CHECK(faked.status_of(pieces) == 0xee);
}

TEST_CASE("a read that cannot be ended leaves a reset unfinished until it ends") {
    FakedDisk faked;
    Disk& disk = faked.disk;
    disk.on_loop([&] { faked.engine->stubborn = true; });
    disk.post(VIRTIO_BLK_T_IN, 1, "", 512);
    disk.kick();
    disk.block->reset();
    CHECK(disk.block->resetting());
    faked.finish(0);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (disk.block->resetting() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    CHECK_FALSE(disk.block->resetting());
}

TEST_CASE("a disk that dies with requests in flight waits for them") {
    auto faked = std::make_unique<FakedDisk>();
    faked->disk.post(VIRTIO_BLK_T_IN, 1, "", 512);
    faked->disk.kick();
    CHECK(faked->waiting() == 1);
    faked.reset();
}

} // namespace inox::virtio_block_engine_test
