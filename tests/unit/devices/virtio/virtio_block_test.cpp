// SPDX-License-Identifier: Apache-2.0
// The whole device on a file, with both engines.
#include "devices/virtio/block/block.hpp"

#include <chrono>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/log_capture.hpp"

namespace inox::virtio_block_test {

using devices::virtio::BlockCache;
using devices::virtio::BlockConfig;
using devices::virtio::BlockEngineKind;
using fakes::Disk;
namespace feature = devices::virtio::block_feature;

namespace {

constexpr int ok = VIRTIO_BLK_S_OK;
constexpr int io_error = VIRTIO_BLK_S_IOERR;
constexpr int unsupported = VIRTIO_BLK_S_UNSUPP;

BlockEngineKind either_engine() { return GENERATE(BlockEngineKind::sync, BlockEngineKind::automatic); }

std::uint64_t sector_at(const std::string& data, std::size_t offset) {
    return load_le(std::as_bytes(std::span{data}).subspan(offset, 8));
}

} // namespace

TEST_CASE("what is written is in the image, and what is in the image is read") {
    Disk disk{{.engine = either_engine()}};
    const auto read = disk.read(100, 4096);
    CHECK(read.status == ok);
    CHECK(read.length == 4097);
    CHECK(sector_at(read.data, 0) == 100);
    CHECK(sector_at(read.data, 3584) == 107);
    const auto written = disk.write(2047, std::string(512, 'w'));
    CHECK(written.status == ok);
    CHECK(written.length == 1);
    CHECK(disk.image.bytes(2047 * 512, 1024) == std::string(512, 'w'));
    CHECK(disk.read(2047, 512).data == std::string(512, 'w'));
    CHECK(disk.flush().status == ok);
    CHECK(disk.block->block_counters().reads == 2);
    CHECK(disk.block->block_counters().read_bytes == 4096 + 512);
    CHECK(disk.block->block_counters().writes == 1);
    CHECK(disk.block->block_counters().flushes == 1);
}

TEST_CASE("many requests at once, with buffers in pieces, all come back, with few interrupts") {
    const auto engine = either_engine();
    Disk disk{{.engine = engine}};
    std::vector<Disk::Pieces> posted;
    for (unsigned i = 0; i < 12; ++i)
        posted.push_back(disk.on_loop([&] {
            return disk.drivers[0]
                ->chain()
                .readable(Disk::header(VIRTIO_BLK_T_IN, i * 8))
                .writable(512)
                .writable(3584)
                .writable(1)
                .post();
        }));
    disk.kick();
    for (unsigned i = 0; i < 12; ++i)
        REQUIRE(disk.wait_used());
    for (unsigned i = 0; i < 12; ++i)
        disk.on_loop([&] {
            CHECK(disk.ram.get<std::uint64_t>(posted[i][1].address) == i * 8);
            CHECK(disk.ram.get<std::uint64_t>(posted[i][2].address) == i * 8 + 1);
            CHECK(disk.ram.get<std::uint8_t>(posted[i][3].address) == ok);
        });
    if (engine == BlockEngineKind::sync)
        CHECK(disk.notifier.used[0] == 1);
}

TEST_CASE("bad requests are answered, counted, and leave the disk working") {
    Disk disk{{.engine = either_engine()}};
    CHECK(disk.request(VIRTIO_BLK_T_OUT, 0, "", 512).status == io_error); // wrong direction
    CHECK(disk.read(2048, 512).status == io_error);                       // beyond the capacity
    CHECK(disk.read(~std::uint64_t{0}, 512).status == io_error);
    CHECK(disk.request(VIRTIO_BLK_T_IN, 0, "", 0).status == io_error); // no data
    CHECK(disk.read(0, 100).status == io_error);
    CHECK(disk.request(77, 0, "", 512).status == unsupported);
    CHECK(disk.block->counters().bad_requests == 6);
    CHECK(disk.block->counters().broken_rings == 0);
    CHECK(disk.read(0, 512).status == ok);
}

TEST_CASE("a request without room for its status is given back, and nothing is written") {
    Disk disk;
    disk.on_loop([&] { disk.drivers[0]->chain().readable(Disk::header(VIRTIO_BLK_T_FLUSH, 0)).post(); });
    disk.kick();
    const auto used = disk.wait_used();
    REQUIRE(used);
    CHECK(used->length == 0);
    CHECK(disk.block->counters().bad_requests == 1);
}

TEST_CASE("a broken ring stops the disk until a reset, and no longer") {
    Disk disk{{.engine = either_engine()}};
    disk.on_loop([&] { disk.drivers[0]->make_available(999); });
    disk.kick();
    // On a busy machine the turn may be over before the ring is looked at; the next one follows.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{10};
    while (disk.notifier.broken == 0 && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    CHECK(disk.notifier.broken == 1);
    disk.post(VIRTIO_BLK_T_IN, 0, "", 512);
    disk.kick();
    CHECK_FALSE(disk.on_loop([&] { return disk.drivers[0]->used(); }));
    disk.block->reset();
    disk.activate();
    CHECK(disk.read(3, 512).status == ok);
    CHECK(disk.notifier.broken == 1);
    CHECK(disk.block->counters().broken_rings == 1);
}

TEST_CASE("doorbells before the driver is ready do nothing") {
    Disk disk;
    disk.block->reset();
    disk.kick();
    disk.kick(99);
    CHECK(disk.block->counters().kicks == 0);
}

TEST_CASE("a read-only disk says so, refuses writes, and leaves the image as it was") {
    Disk disk{{.read_only = true, .engine = either_engine()}};
    CHECK((disk.block->features() & feature::read_only) != 0);
    CHECK((disk.block->features() & (feature::discard | feature::write_zeroes)) == 0);
    CHECK(disk.write(0, std::string(512, 'w')).status == io_error);
    CHECK(disk.request(VIRTIO_BLK_T_DISCARD, 0, Disk::range(0, 8), 0).status == unsupported);
    CHECK(disk.image.bytes(512, 1) == std::string(1, '\1'));
    CHECK(disk.read(5, 512).status == ok);
    CHECK(disk.flush().status == ok);
}

TEST_CASE("discards make holes, zeroes are zeroes") {
    Disk disk{{.engine = either_engine()}};
    for (unsigned sector = 0; sector < 2048; sector += 128)
        REQUIRE(disk.write(sector, std::string(65536, 'x')).status == ok);
    REQUIRE(disk.flush().status == ok);
    const auto before = disk.image.allocated();
    const auto ranges = Disk::range(0, 512) + Disk::range(1024, 256);
    CHECK(disk.request(VIRTIO_BLK_T_DISCARD, 0, ranges, 0).status == ok);
    CHECK(disk.image.allocated() + 768 * 512 <= before);
    CHECK(disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, Disk::range(600, 9), 0).status == ok);
    CHECK(disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, Disk::range(700, 16, 1), 0).status == ok);
    CHECK(disk.read(599, 512).data == std::string(512, 'x'));
    CHECK(disk.read(600, 9 * 512).data == std::string(9 * 512, '\0'));
    CHECK(disk.read(609, 512).data == std::string(512, 'x'));
    CHECK(disk.read(700, 16 * 512).data == std::string(16 * 512, '\0'));
    CHECK(disk.request(VIRTIO_BLK_T_DISCARD, 0, Disk::range(0, 8, 1), 0).status == unsupported);
    CHECK(disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, Disk::range(2047, 2), 0).status == io_error);
    CHECK(disk.block->block_counters().discards == 3);
}

TEST_CASE("the serial number is the one given, cut to 20 bytes, or the disk's id") {
    Disk long_one{{.serial = "0123456789abcdefghijKLM"}};
    CHECK(long_one.request(VIRTIO_BLK_T_GET_ID, 0, "", 20).data == "0123456789abcdefghij");
    Disk named{{.id = "rootfs"}};
    const auto answer = named.request(VIRTIO_BLK_T_GET_ID, 0, "", 20);
    CHECK(answer.status == ok);
    CHECK(answer.data == "rootfs" + std::string(14, '\0'));
}

TEST_CASE("every queue works, and 1 to 32 may be asked for") {
    Disk disk{{.engine = either_engine(), .queues = 4}};
    CHECK((disk.block->features() & feature::multi_queue) != 0);
    CHECK(disk.config<std::uint16_t>(offsetof(BlockConfig, num_queues)) == 4);
    for (unsigned queue = 0; queue < 4; ++queue) {
        const auto answer = disk.request(VIRTIO_BLK_T_IN, queue, "", 512, queue);
        CHECK(answer.status == ok);
        CHECK(sector_at(answer.data, 0) == queue);
        CHECK(disk.notifier.used[queue] == 1);
    }
    EventLoop loop;
    fakes::TempImage image{512};
    for (const unsigned queues : {0U, 33U})
        CHECK(devices::virtio::Block::create({.id = "d", .path = image.path(), .queues = queues}, loop).error().code ==
              Errc::config_value);
    CHECK(devices::virtio::Block::create({.id = "d", .path = image.path(), .queues = 32}, loop));
}

TEST_CASE("an image that shrinks gives I/O errors where it ends, and its name to the log") {
    const tests::LogCapture log;
    Disk disk{{.engine = either_engine()}};
    disk.image.resize(512 * KiB);
    CHECK(disk.read(1024, 512).status == io_error);
    CHECK(disk.read(1023, 1024).status == io_error); // half of it has been cut off
    CHECK(disk.read(1023, 512).status == ok);
    CHECK(disk.write(1024, std::string(512, 'w')).status == io_error);
    CHECK(disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, Disk::range(1024, 1), 0).status == io_error);
    CHECK(disk.image.size() == 512 * KiB);
    CHECK(disk.write(1023, std::string(512, 'w')).status == ok);
    CHECK(disk.block->block_counters().failures == 4);
    CHECK(log.text().find("reading from '" + disk.image.path() + "' failed: the image is smaller than it was") !=
          std::string::npos);
}

TEST_CASE("a write behind the end of an image that shrank is told as one") {
    const tests::LogCapture log;
    Disk disk;
    disk.image.resize(512 * KiB);
    CHECK(disk.write(1024, std::string(512, 'w')).status == io_error);
    CHECK(log.text().find("writing to '" + disk.image.path() + "' failed") != std::string::npos);
}

TEST_CASE("another image takes over at run time, and the driver is told of its size") {
    Disk disk{{.engine = either_engine()}};
    fakes::TempImage other{2 * MiB};
    REQUIRE(disk.write(0, "old" + std::string(509, '.')).status == ok);
    CHECK(disk.on_loop([&] { return disk.block->replace(other.path()); }));
    CHECK(disk.notifier.config == 1);
    CHECK(disk.config<std::uint64_t>(0) == 4096);
    CHECK(disk.block->options().path == other.path());
    CHECK(disk.write(4095, "new" + std::string(509, '.')).status == ok);
    CHECK(other.bytes(4095 * 512, 3) == "new");
    CHECK(disk.image.bytes(0, 3) == "old");
    // The old image can be opened again, the new one is in use.
    CHECK(devices::virtio::BlockFile::open(disk.image.path(), false));
    CHECK_FALSE(devices::virtio::BlockFile::open(other.path(), false));
}

TEST_CASE("a failed replacement changes nothing") {
    Disk disk;
    fakes::TempImage other_format{MiB};
    REQUIRE(::pwrite(other_format.fd(), "QFI\xfb\0\0\0\3", 8, 0) == 8);
    for (const std::string& path : {std::string{"/nonexistent"}, std::string{"/tmp"}, other_format.path()})
        CHECK_FALSE(disk.on_loop([&] { return disk.block->replace(path); }));
    // The format of a replacement cannot be given.
    const auto hint = disk.on_loop([&] { return disk.block->replace(other_format.path()); }).error().hint;
    CHECK(hint.find("or add it as another disk with format=raw") != std::string::npos);
    CHECK(disk.notifier.config == 0);
    CHECK(disk.config<std::uint64_t>(0) == MiB / 512);
    CHECK(disk.block->options().path == disk.image.path());
    CHECK(disk.read(9, 512).status == ok);
}

TEST_CASE("an image that grew shows its new size when it replaces itself") {
    Disk disk;
    disk.image.resize(2 * MiB);
    CHECK(disk.read(2048, 512).status == io_error);
    CHECK(disk.on_loop([&] { return disk.block->replace(disk.image.path()); }));
    CHECK(disk.config<std::uint64_t>(0) == 4096);
    CHECK(disk.notifier.config == 1);
    CHECK(disk.read(2048, 512).status == ok);
}

TEST_CASE("an idle disk can be replaced too, and tells nobody") {
    Disk disk;
    fakes::TempImage other{2 * MiB};
    disk.block->reset();
    CHECK(disk.on_loop([&] { return disk.block->replace(other.path()); }));
    CHECK(disk.notifier.config == 0);
    disk.activate();
    CHECK(disk.read(4095, 512).status == ok);
}

TEST_CASE("two disks of a machine cannot write to one image") {
    Disk disk;
    EventLoop loop;
    const auto second = devices::virtio::Block::create({.id = "b", .path = disk.image.path()}, loop);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::in_use);
    CHECK(second.error().what.find(disk.image.path()) != std::string::npos);
}

TEST_CASE("a cache type decides what the driver may ask for") {
    auto features = [](BlockCache cache) {
        Disk disk{{.cache = cache}};
        return disk.block->features() & (feature::flush | feature::config_wce);
    };
    CHECK(features(BlockCache::unsafe) == 0);
    CHECK(features(BlockCache::writeback) == (feature::flush | feature::config_wce));
    CHECK(features(BlockCache::writethrough) == 0);
}

TEST_CASE("configuration reads are safe at any offset and width") {
    Disk disk;
    CHECK(disk.config<std::uint8_t>(0) == 0);
    CHECK(disk.config<std::uint16_t>(1) == 2048 >> 8);
    CHECK(disk.config<std::uint64_t>(sizeof(BlockConfig) - 4) == 0);
    CHECK(disk.config<std::uint64_t>(~std::uint64_t{0}) == 0);
    std::array<std::byte, 256> all{};
    disk.block->read_config(0, all);
    CHECK(load_le(all) == 2048);
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{33}, ~std::uint64_t{0}})
        disk.block->write_config(offset, std::array{std::byte{0}});
    CHECK(disk.config<std::uint8_t>(offsetof(BlockConfig, writeback)) == 1);
}

TEST_CASE("where the kernel refuses io_uring the disk works without, and says so only when it was asked for") {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (const auto kind : {BlockEngineKind::io_uring, BlockEngineKind::automatic}) {
        const tests::LogCapture log;
        // One descriptor is left, which is what both engines need.
        const int next = ::dup(0);
        ::close(next);
        const rlimit none{static_cast<rlim_t>(next) + 1, limit.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
        const auto engine = devices::virtio::create_block_engine(kind, "disk7");
        ::setrlimit(RLIMIT_NOFILE, &limit);
        REQUIRE(engine);
        CHECK((*engine)->ready_fds().size() == 1); // the worker's: io_uring has one of its own
        CHECK((log.text().find("disk7: the kernel refuses io_uring") != std::string::npos) ==
              (kind == BlockEngineKind::io_uring));
    }
}

} // namespace inox::virtio_block_test
