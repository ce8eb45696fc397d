// SPDX-License-Identifier: Apache-2.0
// Each kind of device notes what it writes to guest memory. Where it takes buffers early, it notes them again when it
// has written: a round of a move may have taken the first note.
#include <linux/virtio_blk.h>

#include "devices/dsa/operations.hpp"
#include "devices/virtio/balloon.hpp"
#include "devices/virtio/console.hpp"
#include "devices/virtio/entropy.hpp"
#include "devices/virtio/iommu.hpp"
#include "iommu/pasid/page_walk.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/fakes/dsa_pace.hpp"
#include "tests/fakes/fake_block_engine.hpp"
#include "tests/fakes/iommu_world.hpp"
#include "tests/fakes/net_guest.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/fakes/vsock_guest.hpp"
#include "tests/support/page_tables.hpp"
#include "tests/support/run_loop.hpp"
#include "tests/support/written_pages.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::devices_written_pages_test {

using namespace devices::virtio;
using fakes::VirtioDriver;
using tests::WrittenPages;

TEST_CASE("the bitmap has each page once, keeps what nobody takes, and is off at first") {
    const auto memory = *GuestMemory::create(160 * MiB, HugePages::none, GuestMemory::Sharing::unneeded, Gpa{96 * MiB});
    auto& dirty = memory.dirty();
    CHECK(dirty.pages() == 160 * MiB / page_size);
    REQUIRE(memory.write(Gpa{0}, 1));
    CHECK(dirty.word(0) == 0);
    dirty.track(true);
    REQUIRE(memory.write(Gpa{2 * page_size - 4}, std::uint64_t{1})); // two pages
    REQUIRE(memory.write(layout::ram_above_hole, 1));
    const std::vector<std::byte> long_one(130 * page_size);
    REQUIRE(memory.write(Gpa{63 * page_size}, long_one));
    CHECK(dirty.take_word(0) == (6 | std::uint64_t{1} << 63));
    CHECK(dirty.take_word(0) == 0);
    CHECK(dirty.take_word(1) == ~std::uint64_t{0});
    CHECK(dirty.take_word(2) == ~std::uint64_t{0});
    CHECK(dirty.take_word(3) == 1);
    CHECK(dirty.test(96 * MiB / page_size));
    CHECK_FALSE(dirty.test(96 * MiB / page_size + 1));
    CHECK_FALSE(dirty.test(dirty.pages()));
    dirty.add_word(7, 5);
    CHECK(dirty.test(7 * 64 + 2));
    int elsewhere = 0;
    dirty.mark(&elsewhere, sizeof elsewhere);
    dirty.clear();
    for (std::size_t i = 0; i < dirty.words(); ++i)
        CHECK(dirty.word(i) == 0);
    dirty.track(false);
    REQUIRE(memory.discard(*memory.host(Gpa{5 * page_size}, page_size)));
    CHECK(dirty.word(0) == 1U << 5); // noted always
}

TEST_CASE("random bytes and input of a console are noted, and so are the rings") {
    EventLoop loop;
    VirtioDriver driver;
    const auto rng = *Entropy::create({}, loop);
    driver.activate(*rng, 0);
    driver[0].chain().writable(9000).post();
    const WrittenPages random{driver.ram.memory};
    rng->kick(0);
    REQUIRE(driver[0].used());
    CHECK(random.noted());
    rng->reset();

    VirtioDriver typist;
    const auto console = *Console::create({}, loop, [](std::span<const std::byte> bytes) { return bytes.size(); });
    typist.activate(*console, 0);
    tests::turn(loop);
    typist[0].chain().writable(100).post();
    const WrittenPages typed{typist.ram.memory};
    CHECK(console->receive(std::as_bytes(std::span{"typed"})) == 6);
    CHECK(typed.noted());
    console->reset();
}

TEST_CASE("a disk notes what it read when the kernel has written it, also for a request that nobody waits for") {
    const bool orphaned = GENERATE(false, true);
    EventLoop loop;
    fakes::TempImage image{MiB};
    VirtioDriver driver;
    auto made = std::make_unique<fakes::FakeBlockEngine>();
    auto& engine = *made;
    engine.stubborn = true;
    BlockOptions options;
    options.id = "disk";
    options.path = image.path();
    const auto disk = Block::create(options, loop, std::move(made)).value();
    driver.activate(*disk, disk->features() | feature::version_1);
    const auto pieces =
        driver[0].chain().readable(fakes::Disk::header(VIRTIO_BLK_T_IN, 0)).writable(8192).writable(1).post();
    disk->kick(0);
    REQUIRE(engine.waiting.size() == 1);
    if (orphaned)
        disk->reset();
    const WrittenPages read{driver.ram.memory};
    const auto host = driver.ram.memory.host(Gpa{pieces[1].address}, 8192); // what the kernel does meanwhile
    REQUIRE(host);
    std::ranges::fill(*host, std::byte{7});
    engine.finish(0, 0);
    tests::run_for(loop, std::chrono::milliseconds{20});
    CHECK(read.noted());
    disk->reset();
}

TEST_CASE("a network interface notes a frame in buffers that it took long before") {
    fakes::NetGuest guest;
    guest.start(fakes::offers);
    for (unsigned i = 0; i < 3; ++i)
        guest.driver[0].chain().writable(page_size).post();
    guest.net->kick(0);
    tests::run_for(guest.loop, std::chrono::milliseconds{5});
    const WrittenPages received{guest.driver.ram.memory};
    guest.port->send(fakes::frame(9000, 'm'));
    REQUIRE(guest.received());
    CHECK(received.noted());
}

TEST_CASE("a socket notes what it delivers") {
    fakes::VsockGuest guest;
    auto [stream, ports] = guest.open_from_host();
    const WrittenPages delivered{guest.driver.ram.memory};
    REQUIRE(stream.send(std::string(9000, 's')));
    CHECK(guest.next().payload.size() > 0);
    CHECK(delivered.noted());
}

TEST_CASE("an IOMMU notes its answers, and what devices behind it write") {
    fakes::IommuWorld world;
    REQUIRE(world.attach(1, fakes::IommuWorld::net) == iommu::Status::ok);
    REQUIRE(world.map(1, 100, 101, 600) == iommu::Status::ok);
    const WrittenPages behind{world.ram.memory};
    {
        const auto hold = world.net_memory->hold();
        REQUIRE(world.net_memory->write(Iova{101 * page_size - 4}, std::uint64_t{~0ULL}));
    }
    CHECK(behind.noted());
    CHECK(world.ram.memory.dirty().test(600));
    CHECK(world.ram.memory.dirty().test(601));
}

TEST_CASE("the bits that a walk sets in a guest's page tables are noted") {
    const auto memory = *GuestMemory::create(16 * MiB, HugePages::none);
    tests::PageTables tables{memory, 0x100000};
    tables.map(0x7000, 0x200000);
    iommu::Paging paging;
    paging.root = tables.root();
    const WrittenPages walked{memory};
    REQUIRE(iommu::walk_pages(memory, paging, 0x7000, {.write = true, .user = true}));
    CHECK(walked.noted());
}

TEST_CASE("an accelerator notes what it wrote after it has") {
    const auto memory = *GuestMemory::create(16 * MiB, HugePages::none);
    const DirectMemory direct{memory};
    const auto backward = GENERATE(false, true);
    std::vector<std::byte> bytes(300'000, std::byte{5});
    REQUIRE(memory.write(Gpa{0x100000}, bytes));
    fakes::DsaPace pace;
    devices::dsa::CpuCopier copier;
    devices::dsa::Operation operation{direct, pace, copier};
    devices::dsa::Descriptor move{};
    move.flags_word = static_cast<std::uint32_t>(devices::dsa::Opcode::memmove) << 24;
    move.source = 0x100000;
    move.destination = backward ? 0x100000 + 5 * page_size : 0x400123;
    move.size = 300'000;
    const WrittenPages moved{memory};
    CHECK(operation.run(move).succeeded());
    CHECK(moved.noted());
}

TEST_CASE("what may be written counts as written when it is translated") {
    const auto memory = *GuestMemory::create(16 * MiB, HugePages::none);
    const DirectMemory direct{memory};
    memory.dirty().track(true);
    std::vector<iovec> pieces;
    auto limit = TranslationLimit::pages_of(8192);
    REQUIRE(direct.translate(*Range<Iova>::sized(Iova{0x3000}, 4096), Access::read, pieces, limit) ==
            Translated::whole);
    CHECK(memory.dirty().word(0) == 0);
    REQUIRE(direct.translate(*Range<Iova>::sized(Iova{0x5000}, 4097), Access::write, pieces, limit) ==
            Translated::whole);
    CHECK((memory.dirty().word(0) & 0x60) == 0x60);
}

} // namespace inox::devices_written_pages_test
