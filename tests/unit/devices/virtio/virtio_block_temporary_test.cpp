// SPDX-License-Identifier: Apache-2.0
// A disk whose writes are thrown away.
#include <sys/stat.h>

#include <cstdlib>
#include <random>

#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"

namespace inox::virtio_block_temporary_test {

using devices::virtio::BlockFile;
using devices::virtio::BlockOptions;
using fakes::Disk;
using fakes::TempImage;
namespace feature = devices::virtio::block_feature;

namespace {

constexpr int ok = VIRTIO_BLK_S_OK;
constexpr unsigned sectors = MiB / 512;

std::string whole(const TempImage& image) { return image.bytes(0, MiB); }

} // namespace

TEST_CASE("a temporary disk reads back what was written, and its image stays as it was") {
    Disk disk{{.temporary = true}};
    const auto before = whole(disk.image);
    CHECK((disk.block->features() & feature::read_only) == 0);
    // Across pages of the overlay, in the middle of one, and twice at one place.
    CHECK(disk.write(5, std::string(512 * 20, 'a')).status == ok);
    CHECK(disk.write(7, std::string(512, 'b')).status == ok);
    CHECK(disk.flush().status == ok);
    CHECK(disk.read(4, 512).data == before.substr(4 * 512, 512));
    CHECK(disk.read(5, 1024).data == std::string(1024, 'a'));
    CHECK(disk.read(7, 512).data == std::string(512, 'b'));
    CHECK(disk.read(0, 512 * 40).data == before.substr(0, 5 * 512) + std::string(1024, 'a') + std::string(512, 'b') +
                                             std::string(512 * 17, 'a') + before.substr(25 * 512, 15 * 512));
    CHECK(whole(disk.image) == before);
}

TEST_CASE("discards and zeroes of a temporary disk hide what the image has") {
    Disk disk{{.temporary = true}};
    const auto before = whole(disk.image);
    CHECK(disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, Disk::range(3, 30), 0).status == ok);
    CHECK(disk.request(VIRTIO_BLK_T_DISCARD, 0, Disk::range(100, 64), 0).status == ok);
    CHECK(disk.read(2, 512).data == before.substr(1024, 512));
    CHECK(disk.read(3, 30 * 512).data == std::string(30 * 512, '\0'));
    CHECK(disk.read(33, 512).data == before.substr(33 * 512, 512));
    CHECK(disk.read(99, 512).data == before.substr(99 * 512, 512));
    CHECK(disk.read(164, 512).data == before.substr(164 * 512, 512));
    CHECK(whole(disk.image) == before);
}

TEST_CASE("any order of requests gives what a plain disk would") {
    Disk disk{{.temporary = true}};
    const auto before = whole(disk.image);
    auto model = before;
    std::mt19937 random{42};
    for (int i = 0; i < 400; ++i) {
        const auto sector = random() % sectors;
        const auto count = std::min<std::size_t>(1 + random() % 40, sectors - sector);
        const auto at = sector * 512;
        const auto size = count * 512;
        switch (random() % 4) {
        case 0:
        case 1: {
            const std::string data(size, static_cast<char>('a' + i % 26));
            REQUIRE(disk.write(sector, data).status == ok);
            model.replace(at, size, data);
            break;
        }
        case 2:
            REQUIRE(
                disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, Disk::range(sector, static_cast<std::uint32_t>(count)), 0)
                    .status == ok);
            model.replace(at, size, std::string(size, '\0'));
            break;
        default:
            REQUIRE(disk.read(sector, static_cast<std::uint32_t>(size)).data == model.substr(at, size));
        }
    }
    CHECK(disk.read(0, MiB).data == model);
    CHECK(whole(disk.image) == before);
}

TEST_CASE("an image that may only be read will do, and several guests may share it") {
    const TempImage image{MiB};
    ::chmod(image.path().c_str(), 0444);
    const BlockOptions options{.path = image.path(), .temporary = true};
    const auto one = BlockFile::open(options);
    const auto two = BlockFile::open(options);
    CHECK(one);
    CHECK(two);
    CHECK_FALSE(BlockFile::open(image.path(), false)); // a writer would pull the image away
}

TEST_CASE("another image is another temporary disk, and an image that grew stays as it was seen") {
    Disk disk{{.temporary = true}};
    const TempImage other{2 * MiB};
    REQUIRE(disk.write(0, std::string(512, 'x')).status == ok);
    disk.image.resize(4 * MiB);
    REQUIRE(disk.on_loop([&] { return disk.block->replace(disk.image.path()); }));
    CHECK(disk.config<std::uint64_t>(0) == sectors);
    CHECK(disk.read(0, 512).data == std::string(512, 'x'));
    REQUIRE(disk.on_loop([&] { return disk.block->replace(other.path()); }));
    CHECK(disk.config<std::uint64_t>(0) == 2 * sectors);
    CHECK(disk.read(0, 512).data == other.bytes(0, 512));
    CHECK(disk.write(3 * sectors / 2, std::string(512, 'y')).status == ok);
    CHECK(disk.read(3 * sectors / 2, 512).data == std::string(512, 'y'));
}

TEST_CASE("a folder without room for writes is told at the start") {
    const TempImage image{MiB};
    ::setenv("TMPDIR", "/nonexistent", 1);
    const auto refused = BlockFile::open(BlockOptions{.path = image.path(), .temporary = true});
    ::unsetenv("TMPDIR");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::output_unwritable);
    CHECK(refused.error().hint.contains("TMPDIR"));
}

} // namespace inox::virtio_block_temporary_test
