// SPDX-License-Identifier: Apache-2.0
// An image on a network file system that hangs does not stop the loop.
#include <chrono>

#include "devices/virtio/block/block.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/slow_file.hpp"
#include "tests/support/run_loop.hpp"

namespace inox::virtio_block_slow_file_test {

using devices::virtio::Block;
using devices::virtio::BlockEngineKind;
using devices::virtio::Queue;
using fakes::SlowFile;

TEST_CASE("a write to an image whose server is slow does not keep the loop") {
    const auto engine = GENERATE(BlockEngineKind::sync, BlockEngineKind::automatic);
    const auto reason = SlowFile::with(MiB, [&](SlowFile& file) {
        EventLoop loop;
        fakes::TestRam ram{4 * MiB};
        fakes::RecordingNotifier notifier;
        fakes::VirtqueueDriver driver{ram, 64};
        const auto block = Block::create({.id = "disk0", .path = file.path(), .engine = engine}, loop).value();
        std::vector<std::optional<Queue>> queues;
        queues.emplace_back(Queue{ram.direct, driver.layout, false});
        block->activate(ram.direct, std::move(queues), block->features() | devices::virtio::feature::version_1,
                        notifier);
        const auto pieces = driver.chain()
                                .readable(fakes::Disk::header(VIRTIO_BLK_T_OUT, 0))
                                .readable(std::string(512, 'x'))
                                .writable(1)
                                .post();
        file.slow();
        const auto start = std::chrono::steady_clock::now();
        block->kick(0);
        CHECK(std::chrono::steady_clock::now() - start < SlowFile::delay / 2);
        CHECK(file.asked() == 0);
        std::optional<fakes::VirtqueueDriver::Used> used;
        REQUIRE(tests::run_until(loop, [&] { return (used = driver.used()).has_value(); }));
        CHECK(ram.get<std::uint8_t>(pieces.back().address) == VIRTIO_BLK_S_OK);
        block->reset();
    });
    if (!reason.empty())
        WARN("skipped: " << reason);
}

} // namespace inox::virtio_block_slow_file_test
