// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/file.hpp"

#include <sys/stat.h>

#include "devices/virtio/block/config.hpp"
#include "devices/virtio/block/image_format.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/disk.hpp"
#include "tests/support/log_capture.hpp"

namespace inox::virtio_block_file_test {

using devices::virtio::BlockFile;
using fakes::TempImage;

namespace {

/// The error of opening the file. It must name the path and say what to do.
Error refusal(const std::string& path, bool read_only = false) {
    const auto file = BlockFile::open(path, read_only);
    REQUIRE_FALSE(file);
    CHECK(file.error().what.find(path) != std::string::npos);
    CHECK_FALSE(file.error().hint.empty());
    return file.error();
}

} // namespace

TEST_CASE("a missing image is named, with what to do") {
    const auto error = refusal("/nonexistent/disk.img");
    CHECK(error.code == Errc::disk_missing);
    CHECK(error.message().find("No such file") != std::string::npos);
}

TEST_CASE("an image that may not be written is refused, and can still be read") {
    if (::geteuid() == 0)
        return; // root may write everything
    TempImage image{4096};
    ::fchmod(image.fd(), 0400);
    CHECK(refusal(image.path()).code == Errc::disk_missing);
    CHECK(BlockFile::open(image.path(), true));
}

TEST_CASE("directories, character devices and FIFOs are no images, and opening one does not hang") {
    for (const bool read_only : {false, true}) {
        CHECK(refusal("/tmp", read_only).code == Errc::disk_invalid);
        CHECK(refusal("/dev/null", read_only).code == Errc::disk_invalid);
        const std::string fifo = "/tmp/inox-fifo-" + std::to_string(::getpid());
        REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
        CHECK(refusal(fifo, read_only).code == Errc::disk_invalid);
        ::unlink(fifo.c_str());
    }
}

TEST_CASE("of an image that is not whole sectors the rest is not part of the disk, and a warning says so") {
    const tests::LogCapture log;
    TempImage image{4096 + 511};
    auto file = BlockFile::open(image.path(), false);
    REQUIRE(file);
    CHECK(file->size() == 4096);
    CHECK(file->present_size() == 4096);
    CHECK(log.text().find("4607 bytes") != std::string::npos);
    CHECK(log.text().find("the last 511") != std::string::npos);
    image.resize(8192 + 1);
    REQUIRE(file->refresh_size());
    CHECK(file->size() == 8192);
    CHECK(log.text().find("8193 bytes") != std::string::npos);
}

TEST_CASE("an image without a whole sector is taken, with a warning") {
    for (const std::uint64_t size : {0U, 1U, 511U}) {
        const tests::LogCapture log;
        TempImage image{size};
        CHECK(BlockFile::open(image.path(), true)->size() == 0);
        CHECK(log.text().find(image.path()) != std::string::npos);
        CHECK(log.text().find("size 0") != std::string::npos);
    }
}

TEST_CASE("files of other formats are refused with how to convert them, unless anything may be in the image") {
    using namespace std::string_literals;
    struct Row {
        std::size_t offset;
        std::string magic;
        const char* name;
        const char* tool;
    };
    const Row rows[] = {
        {0, "QFI\xfb\0\0\0\3"s, "qcow2", "qemu-img convert"},
        {0, "vhdxfile"s, "VHDX", "qemu-img convert"},
        {0, "conectix"s, "VHD", "qemu-img convert"},
        {0, "KDMV\1\0\0\0"s, "VMDK", "qemu-img convert"},
        {0, "# Disk DescriptorFile\nversion=1"s, "VMDK", "qemu-img convert"},
        {0x40, "\x7f\x10\xda\xbe"s, "VDI", "qemu-img convert"},
        {0, "\x1f\x8b\x08\0"s, "gzip", "gunzip"},
        {0, "\xfd\x37zXZ\0"s, "xz", "unxz"},
        {0, "\x28\xb5\x2f\xfd"s, "zstd", "unzstd"},
        {0, "BZh91AY&SY"s, "bzip2", "bunzip2"},
        {0, "PK\3\4"s, "zip", "funzip"},
        {0, "\x89LZO\0\r\n"s, "lzop", "lzop -dc"},
        {0, "\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff"s, "lzma", "unlzma"}, // what xz writes
        {0, "\x5d\0\0\xc0\0\0\0\0\x40\0\0\0\0"s, "lzma", "unlzma"},               // 12 MiB, size known
        {0, "7z\xbc\xaf\x27\x1c\0\4"s, "7z", "7z x -so"},
        {0, "Rar!\x1a\x07\1\0"s, "RAR", "unrar p"},
        {0, "LZIP\1\x0c"s, "lzip", "lzip -dc"},
        {0, "\x1f\x9d\x90"s, "compress", "gunzip"},
        {0, "Bochs Virtual HD Image\0"s, "Bochs", "qemu-img convert -f bochs"},
        {0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"s, "cloop",
         "qemu-img convert -f cloop"},
        {0, "\x3a\xff\x26\xed\1\0\0\0"s, "Android sparse", "simg2img"},
    };
    for (const auto& row : rows) {
        INFO(row.name);
        TempImage image{4096};
        REQUIRE(::pwrite(image.fd(), row.magic.data(), row.magic.size(), static_cast<off_t>(row.offset)) > 0);
        const auto error = refusal(image.path());
        CHECK(error.code == Errc::disk_invalid);
        CHECK(error.what.find(row.name) != std::string::npos);
        CHECK(error.hint.find(row.tool) != std::string::npos);
        CHECK(error.hint.find("format=raw") != std::string::npos);
        CHECK(BlockFile::open(image.path(), false, devices::virtio::ImageContents::anything));
        CHECK(image.bytes(row.offset, row.magic.size()) == row.magic);
    }
}

TEST_CASE("a compressed disk image of Apple's is known by its end, one that is not compressed is a raw disk") {
    constexpr off_t end = 4096;
    const auto tail = [](std::uint64_t length, std::uint64_t sectors) {
        std::string block(512, '\0');
        block.replace(0, 4, "koly");
        for (std::size_t i = 0; i < 8; ++i) {
            block[32 + i] = static_cast<char>(length >> (56 - 8 * i));
            block[492 + i] = static_cast<char>(sectors >> (56 - 8 * i));
        }
        return block;
    };
    TempImage image{end + 512};
    REQUIRE(::pwrite(image.fd(), tail(1024, 1000).data(), 512, end) == 512);
    const auto error = refusal(image.path());
    CHECK(error.code == Errc::disk_invalid);
    CHECK(error.what.find("compressed DMG") != std::string::npos);
    CHECK(error.hint.find("qemu-img convert -f dmg") != std::string::npos);
    CHECK(BlockFile::open(image.path(), false, devices::virtio::ImageContents::anything));
    REQUIRE(::pwrite(image.fd(), tail(end, end / 512).data(), 512, end) == 512);
    CHECK(BlockFile::open(image.path(), false));
}

TEST_CASE("what only begins like lzma is a raw disk") {
    using namespace std::string_literals;
    for (const auto& start : {
             "\x5d\0\0\x81\0\xff\xff\xff\xff\xff\xff\xff\xff"s, // no valid size of a dictionary
             "\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\x7f"s, // a size beyond 256 GiB
             "\x5d\0\0\0\0\0\0\0\0\0\0\0\0"s,
         }) {
        TempImage image{4096};
        REQUIRE(::pwrite(image.fd(), start.data(), start.size(), 0) > 0);
        CHECK(BlockFile::open(image.path(), false));
    }
}

TEST_CASE("the hint how to convert an image can be pasted, whatever its name") {
    const auto hint = devices::virtio::conversion_hint({"qcow2", "qemu-img convert -O raw IN OUT"}, "it's IN OUT.img");
    CHECK(hint.find("qemu-img convert -O raw 'it'\\''s IN OUT.img' 'it'\\''s IN OUT.img.raw'") != std::string::npos);
}

TEST_CASE("a file that is shorter than a magic number is no file of that format") {
    TempImage image{5};
    REQUIRE(::pwrite(image.fd(), "vhdxf", 5, 0) == 5);
    CHECK(BlockFile::open(image.path(), false));
}

TEST_CASE("a writer excludes everybody else, readers only writers") {
    TempImage image{4096};
    {
        const auto writer = BlockFile::open(image.path(), false);
        REQUIRE(writer);
        CHECK(refusal(image.path(), false).code == Errc::in_use);
        CHECK(refusal(image.path(), true).code == Errc::in_use);
    }
    const auto reader = BlockFile::open(image.path(), true);
    REQUIRE(reader);
    CHECK(BlockFile::open(image.path(), true));
    CHECK(refusal(image.path(), false).code == Errc::in_use);
}

TEST_CASE("an image knows itself by any name") {
    TempImage image{4096};
    TempImage other{4096};
    const auto file = BlockFile::open(image.path(), false);
    REQUIRE(file);
    CHECK(file->is(image.path()));
    CHECK_FALSE(file->is(other.path()));
    CHECK_FALSE(file->is("/nonexistent"));
    const std::string link = image.path() + ".link";
    REQUIRE(::symlink(image.path().c_str(), link.c_str()) == 0);
    CHECK(file->is(link));
    ::unlink(link.c_str());
}

TEST_CASE("discarding gives space back, zeroing leaves zeroes with or without it") {
    TempImage image{MiB};
    const std::string data(MiB, 'x');
    REQUIRE(::pwrite(image.fd(), data.data(), data.size(), 0) == static_cast<ssize_t>(data.size()));
    const auto file = BlockFile::open(image.path(), false);
    REQUIRE(file);
    const auto before = image.allocated();
    CHECK(file->discard(0, 512 * KiB) == 0);
    CHECK(image.allocated() < before);
    CHECK(file->write_zeroes(512 * KiB, 64 * KiB, true) == 0);
    CHECK(file->write_zeroes(576 * KiB, 64 * KiB, false) == 0);
    CHECK(file->write_zeroes(640 * KiB + 512, 1024, false) == 0);
    CHECK(image.bytes(512 * KiB, 128 * KiB) == std::string(128 * KiB, '\0'));
    CHECK(image.bytes(640 * KiB, 4096) ==
          std::string(512, 'x') + std::string(1024, '\0') + std::string(4096 - 1536, 'x'));
    CHECK(image.size() == MiB);
}

TEST_CASE("where the file system can do neither, zeroes are written") {
    // Memory file systems do not support ZERO_RANGE.
    UniqueFd memory{::memfd_create("disk", MFD_CLOEXEC)};
    REQUIRE(::ftruncate(memory.get(), 9 * MiB) == 0);
    const std::string data(9 * MiB, 'x');
    REQUIRE(::pwrite(memory.get(), data.data(), data.size(), 0) == static_cast<ssize_t>(data.size()));
    const auto file = BlockFile::open("/proc/self/fd/" + std::to_string(memory.get()), false);
    REQUIRE(file);
    CHECK(file->write_zeroes(512, 8 * MiB + 512, false) == 0);
    std::string seen(9 * MiB, '?');
    REQUIRE(::pread(memory.get(), seen.data(), seen.size(), 0) == static_cast<ssize_t>(seen.size()));
    CHECK(seen == std::string(512, 'x') + std::string(8 * MiB + 512, '\0') + std::string(MiB - 1024, 'x'));
}

TEST_CASE("the configuration tells sizes, limits and the host's block sizes") {
    TempImage image{3 * MiB};
    const auto file = BlockFile::open(image.path(), false);
    REQUIRE(file);
    const auto config = devices::virtio::make_block_config(*file, 4);
    CHECK(config.capacity == 3 * MiB / 512);
    CHECK(config.seg_max == 254);
    CHECK(config.blk_size == 512);
    CHECK(config.physical_block_exp == 3);
    CHECK(config.num_queues == 4);
    CHECK(config.heads * config.sectors * config.cylinders <= config.capacity);
    CHECK(config.max_discard_seg == 16);
    CHECK(config.discard_sector_alignment == 8);
    CHECK(config.max_write_zeroes_seg == 1);
    CHECK(config.write_zeroes_may_unmap == 1);
}

} // namespace inox::virtio_block_file_test
