// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/huge_pages.hpp"

#include <fstream>
#include <sstream>
#include <string>
#include <sys/mman.h>

#include "tests/catch.hpp"
#include "tests/fakes/vfio_host.hpp"
#include "vmm/base/os.hpp"
#include "vmm/memory/guest_memory.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::memory_huge_pages_test {

namespace {

std::uintptr_t address(std::span<const std::byte> bytes) { return reinterpret_cast<std::uintptr_t>(bytes.data()); }

/// The kernel's number for the mapping that starts there, in bytes.
std::uint64_t smaps(std::span<const std::byte> memory, const std::string& key) {
    std::ifstream file{"/proc/self/smaps"};
    std::string line;
    for (bool here = false; std::getline(file, line);) {
        if (const auto dash = line.find('-'); dash != std::string::npos && dash < line.find(' '))
            here = std::stoull(line, nullptr, 16) == address(memory);
        else if (here && line.rfind(key + ":", 0) == 0)
            return std::stoull(line.substr(key.size() + 1)) * KiB;
    }
    return 0;
}

bool host_can() {
    auto probe = GuestMemory::create(2 * MiB, HugePages::none).value();
    if (gather_huge_pages(probe.regions()[0].host) == 2 * MiB)
        return true;
    WARN("skipped: this host puts no shared memory into huge pages (Linux before 6.1, or none is free)");
    return false;
}

/// The kernel's key for memory of that kind that is in huge pages.
const char* huge_key(HugePages pages) { return pages == HugePages::none ? "ShmemPmdMapped" : "AnonHugePages"; }

/// Guest RAM that a device of the host may reach, and that nobody has touched yet.
struct Assigned : fakes::VfioHost {
    GuestMemory guest;
    std::unique_ptr<devices::vfio::Device> device{};

    explicit Assigned(HugePages pages = HugePages::none) : guest{GuestMemory::create(64 * MiB, pages).value()} {
        kernel.add("0000:01:00.0", 1, "vfio0");
        REQUIRE(session().add_ram(guest.regions()[0]));
        device = open("0000:01:00.0", devices::vfio::Backend::iommufd);
    }
};

} // namespace

TEST_CASE("guest memory lies where a huge page of its file is one in every table") {
    const auto memory = GuestMemory::create(layout::hole.start().raw() + 4 * MiB, HugePages::none).value();
    for (const auto& region : memory.regions()) {
        CHECK(address(region.host) % huge_page_size == 0);
        CHECK(region.file_offset % huge_page_size == 0);
        CHECK(region.range.start().raw() % huge_page_size == 0);
    }
}

TEST_CASE("an aligned mapping leaves nothing beside it, whatever the alignment") {
    for (const std::size_t alignment : {std::size_t{page_size}, std::size_t{2 * MiB}, std::size_t{1 * GiB}}) {
        const auto mapping = Mapping::create_aligned(alignment, 3 * page_size, PROT_READ | PROT_WRITE,
                                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                 .value();
        CHECK(address(mapping.bytes()) % alignment == 0);
        CHECK(mapping.bytes().size() == 3 * page_size);
        mapping.bytes().back() = std::byte{1};
        unsigned char resident{};
        CHECK(::mincore(mapping.bytes().data() + 3 * page_size, page_size, &resident) != 0); // ENOMEM: not mapped
    }
    CHECK_FALSE(Mapping::create_aligned(2 * MiB, SIZE_MAX - page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK_FALSE(Mapping::create_aligned(2 * MiB, page_size, PROT_READ, MAP_SHARED, -1, 0)); // there is no such file
}

TEST_CASE("gathering puts memory into huge pages, keeps what is in it, and populates no more than it was given") {
    if (!host_can())
        return;
    auto memory = GuestMemory::create(96 * MiB, HugePages::none).value();
    const auto all = memory.regions()[0].host;
    for (std::size_t at = 0; at < 80 * MiB; at += 5 * page_size) // some pieces stay empty
        all[at] = static_cast<std::byte>(at / page_size);
    std::vector<std::uint64_t> told;
    CHECK(gather_huge_pages(all.subspan(page_size, 94 * MiB), [&](std::uint64_t done) { told.push_back(done); }) ==
          92 * MiB); // only whole pieces
    CHECK(told == std::vector<std::uint64_t>{64 * MiB, 92 * MiB});
    CHECK(smaps(all, "ShmemPmdMapped") == 92 * MiB);
    CHECK(smaps(all, "Rss") < 94 * MiB);
    for (std::size_t at = 0; at < 80 * MiB; at += 5 * page_size)
        REQUIRE(all[at] == static_cast<std::byte>(at / page_size));
    CHECK(gather_huge_pages(all) == 96 * MiB); // huge pages that exist already count, too
    CHECK(gather_huge_pages(all.subspan(page_size, 2 * MiB)) == 0);
    CHECK(gather_huge_pages({}) == 0);
}

TEST_CASE("private memory is gathered too, that was read only and whose zeros are one page") {
    if (!host_can())
        return;
    auto memory = GuestMemory::create(32 * MiB, HugePages::transparent).value();
    const auto all = memory.regions()[0].host;
    const auto read = [&](std::size_t at) { return *static_cast<volatile std::byte*>(all.data() + at); };
    REQUIRE(::madvise(all.data(), 16 * MiB, MADV_NOHUGEPAGE) == 0);
    for (std::size_t at = 0; at < 8 * MiB; at += 5 * page_size) // small pages, and small pages of zeros
        all[at] = static_cast<std::byte>(at / page_size);
    for (std::size_t at = 8 * MiB; at < 16 * MiB; at += page_size)
        REQUIRE(read(at) == std::byte{});
    CHECK(smaps(all, "AnonHugePages") == 0);
    REQUIRE(::madvise(all.data(), 16 * MiB, MADV_HUGEPAGE) == 0);
    REQUIRE(read(20 * MiB) == std::byte{}); // a huge page of zeros, where the host uses them
    CHECK(gather_huge_pages(all) == 32 * MiB);
    CHECK(smaps(all, "AnonHugePages") == 32 * MiB);
    for (std::size_t at = 0; at < 32 * MiB; at += 5 * page_size)
        REQUIRE(all[at] == static_cast<std::byte>(at < 8 * MiB ? at / page_size : 0));
}

TEST_CASE("memory of transparent pages is private, and in huge pages from the first touch") {
    const auto memory = GuestMemory::create(64 * MiB, HugePages::transparent).value();
    const auto all = memory.regions()[0].host;
    CHECK_FALSE(memory.shared());
    CHECK(memory.fd() < 0);
    auto probe = Mapping::create_aligned(huge_page_size, huge_page_size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                     .value();
    ::madvise(probe.bytes().data(), huge_page_size, MADV_HUGEPAGE);
    probe.bytes()[0] = std::byte{1};
    if (smaps(probe.bytes(), "AnonHugePages") == 0) {
        WARN("skipped: this host has no transparent huge pages (/sys/kernel/mm/transparent_hugepage/enabled), or none "
             "is free");
        return;
    }
    CHECK(smaps(all, "Rss") == 0);
    all[5] = all[9 * MiB] = std::byte{1};
    CHECK(smaps(all, "AnonHugePages") == 4 * MiB);
    CHECK(smaps(all, "Rss") == 4 * MiB);
}

TEST_CASE("memory that is to be shared has a file behind it, whatever its pages") {
    for (const auto pages : {HugePages::none, HugePages::transparent}) {
        const auto memory = GuestMemory::create(4 * MiB, pages, GuestMemory::Sharing::needed).value();
        REQUIRE(memory.shared());
        REQUIRE(memory.write(Gpa{3 * MiB}, std::uint32_t{7}));
        const auto seen = Mapping::create(page_size, PROT_READ, MAP_SHARED, memory.fd(), 3 * MiB).value();
        CHECK(seen.bytes()[0] == std::byte{7});
    }
}

TEST_CASE("memory that cannot be gathered stays as it is") {
    const auto mapping =
        Mapping::create_aligned(2 * MiB, 4 * MiB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).value();
    REQUIRE(::madvise(mapping.bytes().data(), 4 * MiB, MADV_NOHUGEPAGE) == 0);
    CHECK(gather_huge_pages(mapping.bytes()) == 0);
}

TEST_CASE("guest RAM is in huge pages before the kernel pins it") {
    if (!host_can())
        return;
    const auto pages = GENERATE(HugePages::none, HugePages::transparent);
    Assigned machine{pages};
    const auto& region = machine.guest.regions()[0];
    const auto& device = machine.device;
    CHECK(smaps(region.host, "Rss") == 0); // not touched until a device needs it
    SECTION("1:1") { REQUIRE(machine.session().map_guest(device->dma())); }
    SECTION("by a virtual IOMMU that lets the device reach everything") {
        REQUIRE(device->dma().map(*devices::vfio::IovaRange::closed(Iova{0}, Iova{64 * MiB - 1}), region.host,
                                  Access::read_write));
    }
    CHECK(smaps(region.host, huge_key(pages)) == 64 * MiB);
}

TEST_CASE("a small mapping of a guest's own is pinned as it is") {
    Assigned machine;
    const auto& region = machine.guest.regions()[0];
    REQUIRE(machine.device->dma().map(*devices::vfio::IovaRange::closed(Iova{0}, Iova{4 * MiB - 1}),
                                      region.host.first(4 * MiB), Access::read_write));
    CHECK(smaps(region.host, "Rss") == 0);
}

} // namespace inox::memory_huge_pages_test
