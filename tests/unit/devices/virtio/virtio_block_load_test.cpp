// SPDX-License-Identifier: Apache-2.0
// The device over time: limits on a real clock, resets and replacements under load, an IOMMU that unmaps, a killed
// process.
#include "devices/virtio/block/block.hpp"

#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>

#include "devices/virtio/block/file.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"

namespace inox::virtio_block_load_test {

using devices::BucketLimits;
using devices::virtio::BlockEngineKind;
using devices::virtio::Queue;
using fakes::Disk;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int ok = VIRTIO_BLK_S_OK;

BlockEngineKind either_engine() { return GENERATE(BlockEngineKind::sync, BlockEngineKind::automatic); }

/// Seconds for `count` reads of `bytes`, all posted at once on `queues` queues.
double seconds_for(Disk& disk, unsigned count, std::uint32_t bytes, unsigned queues = 1) {
    const auto start = Clock::now();
    for (unsigned i = 0; i < count; ++i)
        disk.post(VIRTIO_BLK_T_IN, 0, "", bytes, i % queues);
    for (unsigned queue = 0; queue < queues; ++queue)
        disk.kick(queue);
    for (unsigned i = 0; i < count; ++i)
        REQUIRE(disk.wait_used(i % queues));
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Guest memory behind a translation that can be removed and changed.
class MovingMemory final : public DmaMemory {
public:
    explicit MovingMemory(const DirectMemory& memory) : memory_{memory} {}
    Hold hold() const override { return Hold{std::shared_lock{mutex_}}; }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return generation_.load(); }
    void pin(DmaPin& pin) const override { pins_->add(pin); }
    [[nodiscard]] Translated do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                          TranslationLimit& limit) const noexcept override {
        return mapped_ ? memory_.translate(range, access, out, limit) : Translated::fault;
    }
    /// Does what the guest does to its IOMMU. The drain ends when the device no longer uses the old memory.
    DmaDrain remap() {
        DmaDrain drain;
        std::unique_lock lock{mutex_};
        mapped_ = false;
        ++generation_;
        pins_->collect(Range<Iova>::full(), drain);
        mapped_ = true;
        return drain;
    }

private:
    const DirectMemory& memory_;
    mutable std::shared_mutex mutex_;
    bool mapped_{true}; // guarded by mutex_
    std::atomic<std::uint64_t> generation_{1};
    std::shared_ptr<DmaPins> pins_{DmaPins::create()};
};

} // namespace

TEST_CASE("a disk keeps to its bandwidth, across queues") {
    Disk disk{{.limits = {BucketLimits{64 * KiB, 0, 20ms}, {}}, .queues = 3}}; // 3.2 MB/s
    // The first bucket is full; the other 47 take 20 ms each.
    const double seconds = seconds_for(disk, 48, 64 * 1024, 3);
    CHECK(seconds > 0.9 * 47 * 0.020);
    CHECK(seconds < 1.1 * 47 * 0.020 + 0.25);
    CHECK(disk.block->block_counters().throttled > 0);
}

TEST_CASE("a disk keeps to its number of operations") {
    Disk disk{{.limits = {{}, BucketLimits{10, 0, 100ms}}}};
    const double seconds = seconds_for(disk, 30, 512);
    CHECK(seconds > 0.9 * 0.2);
    CHECK(seconds < 0.2 + 0.25);
}

TEST_CASE("lifting a limit lets waiting requests go at once, a reset forgets them") {
    Disk disk{{.limits = {{}, BucketLimits{1, 0, 1h}}}};
    CHECK(disk.read(0, 512).status == ok);
    disk.post(VIRTIO_BLK_T_IN, 0, "", 512);
    disk.kick();
    CHECK_FALSE(disk.on_loop([&] { return disk.drivers[0]->used(); }));
    disk.block->reset();
    disk.activate();
    disk.post(VIRTIO_BLK_T_IN, 0, "", 512);
    disk.kick();
    CHECK_FALSE(disk.on_loop([&] { return disk.drivers[0]->used(); }));
    disk.on_loop([&] { disk.block->update_limits({{}, BucketLimits{0, 0, 0ms}}); });
    CHECK(disk.wait_used());
}

TEST_CASE("a driver that never pauses does not keep the loop to itself") {
    Disk disk{{.engine = either_engine()}, 64 * MiB};
    // 40 MiB of reads are more than one turn.
    for (unsigned i = 0; i < 20; ++i)
        disk.on_loop([&] {
            auto chain = disk.drivers[0]->chain();
            chain.readable(Disk::header(VIRTIO_BLK_T_IN, 0)).raw({0x2000000, 2 << 20, true}).writable(1).post();
        });
    std::atomic<bool> other{false};
    std::size_t done = 0;
    disk.on_loop([&] {
        disk.loop.post([&] { other = true; });
        disk.block->kick(0);
        while (disk.drivers[0]->used())
            ++done;
    });
    CHECK(done < 20);
    for (; done < 20; ++done)
        REQUIRE(disk.wait_used());
    CHECK(other);
}

TEST_CASE("resets from another thread, replacements and requests at the same time do no harm") {
    Disk disk{{.engine = either_engine(), .queues = 2}};
    fakes::TempImage other{MiB};
    std::atomic<bool> stop{false};
    std::jthread resetter{[&] {
        while (!stop) {
            disk.block->reset();
            disk.block->write_config(32, std::array{std::byte{0}});
            disk.activate();
            std::this_thread::sleep_for(2ms);
            disk.block->reset_queue(1);
        }
    }};
    const auto end = Clock::now() + 1s;
    for (unsigned i = 0; Clock::now() < end; ++i) {
        disk.on_loop([&] { disk.ram.next = 0x200000 + (disk.ram.next & 0xffffff); });
        disk.post(VIRTIO_BLK_T_IN, i % 2048, "", 512, 0);
        disk.post(VIRTIO_BLK_T_OUT, i % 2048, std::string(512, 'x'), 0, 1);
        disk.kick(0);
        disk.kick(1);
        if (i % 16 == 0)
            (void)disk.on_loop([&] { return disk.block->replace(i % 32 == 0 ? other.path() : disk.image.path()); });
    }
    stop = true;
    resetter.join();
    disk.block->reset();
    disk.on_loop([&] { disk.ram.next = 0x200000; });
    disk.activate();
    CHECK(disk.read(0, 512).status == ok);
}

TEST_CASE("a reset from another thread waits for reads that wait for the disk") {
    Disk disk{{.engine = BlockEngineKind::automatic}, 16 * MiB};
    const std::string data(16 * MiB, 'd');
    REQUIRE(::pwrite(disk.image.fd(), data.data(), data.size(), 0) == static_cast<ssize_t>(data.size()));
    ::fsync(disk.image.fd());
    for (unsigned round = 0; round < 20; ++round) {
        ::posix_fadvise(disk.image.fd(), 0, 0, POSIX_FADV_DONTNEED);
        Disk::Pieces last;
        for (unsigned i = 0; i < 32; ++i)
            last = disk.post(VIRTIO_BLK_T_IN, i * 1024, "", 65536);
        disk.kick();
        disk.block->reset();
        while (disk.block->resetting())
            std::this_thread::sleep_for(1ms);
        // From here on only the guest may use the memory.
        disk.on_loop([&] {
            for (std::uint64_t at = 0; at < 65536; at += 8)
                disk.ram.put(last[1].address + at, ~std::uint64_t{0});
        });
        std::this_thread::sleep_for(1ms);
        CHECK(disk.on_loop([&] { return disk.ram.text(last[1].address, 65536); }) == std::string(65536, '\xff'));
        disk.on_loop([&] { disk.ram.next = 0x200000; });
        disk.activate();
    }
}

TEST_CASE("an IOMMU that unmaps waits for the disk and never for ever, on the loop's thread too") {
    Disk disk{{.engine = either_engine()}};
    disk.block->reset();
    MovingMemory moving{disk.ram.direct};
    disk.on_loop([&] {
        std::vector<std::optional<Queue>> queues;
        disk.drivers[0] = std::make_unique<fakes::VirtqueueDriver>(disk.ram, 64);
        queues.emplace_back(Queue{moving, disk.drivers[0]->layout, true});
        disk.block->activate(moving, std::move(queues),
                             disk.block->features() | devices::virtio::feature::version_1 |
                                 devices::virtio::feature::access_platform,
                             disk.notifier);
    });
    std::atomic<bool> stop{false};
    std::jthread guest{[&] {
        while (!stop) {
            const DmaDrain drain = moving.remap();
            while (!drain.done())
                std::this_thread::yield();
            std::this_thread::sleep_for(50us);
        }
    }};
    const auto end = Clock::now() + 500ms;
    for (unsigned i = 0; Clock::now() < end; ++i) {
        disk.on_loop([&] { disk.ram.next = 0x200000; });
        CHECK(disk.write(i % 2048, std::string(512, 'm')).status == ok);
        disk.post(VIRTIO_BLK_T_IN, i % 2048, "", 512);
        disk.on_loop([&] {
            disk.block->kick(0);
            (void)moving.remap();
        });
        REQUIRE(disk.wait_used());
    }
    stop = true;
    guest.join();
    disk.block->reset();
}

TEST_CASE("what was flushed outlives a process that is killed") {
    for (const auto engine : {BlockEngineKind::sync, BlockEngineKind::automatic}) {
        fakes::TempImage image{MiB};
        int ready[2]{};
        REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
        const pid_t child = ::fork();
        if (child == 0) {
            Disk disk{{.engine = engine}};
            if (!disk.on_loop([&] { return disk.block->replace(image.path()); }) ||
                disk.write(8, std::string(4096, 'k')).status != ok || disk.flush().status != ok)
                ::_exit(1);
            (void)!::write(ready[1], "!", 1);
            ::pause();
        }
        ::close(ready[1]);
        char told = 0;
        CHECK(::read(ready[0], &told, 1) == 1);
        ::close(ready[0]);
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        CHECK(WIFSIGNALED(status));
        CHECK(image.bytes(8 * 512, 4096) == std::string(4096, 'k'));
        // The lock was released, too.
        CHECK(devices::virtio::BlockFile::open(image.path(), false));
    }
}

} // namespace inox::virtio_block_load_test
