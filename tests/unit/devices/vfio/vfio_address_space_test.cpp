// SPDX-License-Identifier: Apache-2.0
// The rules of DMA mappings, on both kernel interfaces.
#include "devices/vfio/dma/address_space.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/vfio_host.hpp"

namespace inox::vfio_address_space_test {

using namespace inox::devices::vfio;
using fakes::iovas;

namespace {

constexpr auto everything = IovaRange::full();
constexpr std::uint64_t page = 4096;

/// One device whose address space has 64 pages to map.
struct Space : fakes::VfioHost {
    explicit Space(Backend backend) {
        kernel.rules.ranges = {{0, 0xfedfffff}, {0xfef00000, ~std::uint64_t{0}}};
        kernel.add("0000:01:00.0", 7, "vfio0");
        host = pages(64 * page);
        REQUIRE(session().memory().add(host, "memory"));
        backend_ = backend;
    }
    AddressSpace& dma() {
        if (!device)
            device = VfioHost::open("0000:01:00.0", backend_);
        return device->dma();
    }
    Result<void> map(std::uint64_t first, std::uint64_t last, Access access = Access::read_write) {
        return dma().map(iovas(first, last), host.first(last - first + 1), access);
    }
    Errc map_error(std::uint64_t first, std::uint64_t last) {
        const auto result = map(first, last);
        REQUIRE_FALSE(result);
        return result.error().code;
    }
    std::size_t in_kernel() { return kernel.mappings("0000:01:00.0")->size(); }

    std::span<std::byte> host;
    Backend backend_{};
    std::unique_ptr<Device> device;
};

} // namespace

#define BOTH_KINDS GENERATE(Backend::container, Backend::iommufd)

TEST_CASE("a mapping reaches the kernel as base and size, with the access that was asked for") {
    Space space{BOTH_KINDS};
    REQUIRE(space.map(0x10000, 0x11fff, Access::read));
    const auto& mapping = space.kernel.mappings("0000:01:00.0")->at(0x10000);
    CHECK(mapping.size == 0x2000);
    CHECK(mapping.vaddr == reinterpret_cast<std::uintptr_t>(space.host.data()));
    const auto readable = space.backend_ == Backend::container
                              ? VFIO_DMA_MAP_FLAG_READ
                              : (uapi::IoasMap::flag_readable | uapi::IoasMap::flag_fixed_iova);
    CHECK(mapping.flags == readable);
    REQUIRE(space.map(0x20000, 0x20fff, Access::write));
    const auto writable = space.backend_ == Backend::container
                              ? VFIO_DMA_MAP_FLAG_WRITE
                              : (uapi::IoasMap::flag_writeable | uapi::IoasMap::flag_fixed_iova);
    CHECK(space.kernel.mappings("0000:01:00.0")->at(0x20000).flags == writable);
}

TEST_CASE("what overlaps, is reserved, not whole pages or too high is refused before the kernel is asked") {
    Space space{BOTH_KINDS};
    REQUIRE(space.map(0x10000, 0x11fff));
    const auto asked = space.kernel.count("map");
    CHECK(space.map_error(0x10000, 0x11fff) == Errc::already_exists);
    CHECK(space.map_error(0x11000, 0x12fff) == Errc::already_exists);
    CHECK(space.map_error(0x0000, 0x10fff) == Errc::already_exists);
    CHECK(space.map_error(0xfee00000, 0xfee00fff) == Errc::config_value);
    CHECK(space.map_error(0xfedff000, 0xfee00fff) == Errc::config_value);
    CHECK(space.map_error(0x100800, 0x1017ff) == Errc::config_value);
    CHECK(space.map_error(0x100000, 0x1007ff) == Errc::config_value);
    CHECK(space.map_error(~std::uint64_t{0} - page + 1, ~std::uint64_t{0}) == Errc::config_value);
    CHECK(space.kernel.count("map") == asked);
    CHECK(space.dma().map(everything, space.host, Access::read).error().code == Errc::internal);
    REQUIRE(space.map(~std::uint64_t{0} - 2 * page + 1, ~std::uint64_t{0} - page));
    CHECK(space.in_kernel() == 2);
}

TEST_CASE("memory that is not registered cannot be mapped, and a failed mapping leaves no use of it") {
    Space space{BOTH_KINDS};
    const auto foreign = space.pages(page);
    CHECK(space.dma().map(iovas(0, page - 1), foreign, Access::read).error().code == Errc::not_found);
    space.kernel.rules.fail_next_maps = EFAULT;
    CHECK(space.map_error(0, page - 1) == Errc::host_error);
    CHECK(space.session().memory().uses(space.host) == 0);
    CHECK(space.dma().mapping_count() == 0);
    REQUIRE(space.map(0, page - 1));
    CHECK(space.session().memory().uses(space.host) == 1);
    REQUIRE(space.dma().unmap(iovas(0, page - 1)));
    CHECK(space.session().memory().uses(space.host) == 0);
}

TEST_CASE("an unmap takes whole mappings and holes, in one call, and refuses to cut") {
    Space space{BOTH_KINDS};
    for (std::uint64_t i = 0; i < 4; ++i)
        REQUIRE(space.map(i * 4 * page, i * 4 * page + 2 * page - 1));
    const auto before = space.kernel.calls.size();
    CHECK(space.dma().unmap(iovas(page, 9 * page - 1)).error().code == Errc::config_value);
    CHECK(space.dma().unmap(iovas(0, 5 * page - 1)).error().code == Errc::config_value);
    CHECK(space.dma().unmap(iovas(page, 2 * page - 1)).error().code == Errc::config_value);
    CHECK(space.dma().unmap(iovas(2 * page, 4 * page - 1))); // a hole
    CHECK(space.kernel.calls.size() == before);
    CHECK(space.in_kernel() == 4);
    REQUIRE(space.dma().unmap(iovas(3 * page, 11 * page - 1)));
    CHECK(space.kernel.calls.size() == before + 1);
    CHECK(space.in_kernel() == 2);
    CHECK(space.session().memory().uses(space.host) == 2);
    REQUIRE(space.dma().unmap(iovas(page, ~std::uint64_t{0})).error().code == Errc::config_value);
    REQUIRE(space.dma().unmap(iovas(2 * page, ~std::uint64_t{0})));
    CHECK(space.in_kernel() == 1);
    CHECK(space.dma().mapping_count() == 1);
}

TEST_CASE("an unmap that reaches the end of the space asks the kernel for no more than is mapped") {
    Space space{BOTH_KINDS};
    for (std::uint64_t i = 0; i < 3; ++i)
        REQUIRE(space.map(i * 4 * page, i * 4 * page + page - 1));
    space.kernel.rules.wrong_at_the_end = true;
    REQUIRE(space.dma().unmap(iovas(4 * page, ~std::uint64_t{0})));
    CHECK(space.in_kernel() == 1);
    CHECK(space.dma().mapping_count() == 1);
    // The same with a mapping at the highest possible address.
    REQUIRE(space.map(~std::uint64_t{0} - 2 * page + 1, ~std::uint64_t{0} - page));
    REQUIRE(space.dma().unmap(iovas(page, ~std::uint64_t{0})));
    CHECK(space.in_kernel() == 1);
    CHECK(space.dma().mapping_count() == 1);
    CHECK(space.session().memory().uses(space.host) == 1);
}

TEST_CASE("the whole space is unmapped by the kernel's own call for it") {
    Space space{BOTH_KINDS};
    REQUIRE(space.map(0, page - 1));
    REQUIRE(space.map((std::uint64_t{1} << 63) - page, (std::uint64_t{1} << 63) + page - 1));
    REQUIRE(space.dma().unmap(everything));
    CHECK(space.kernel.count("unmap_all") == 1);
    CHECK(space.kernel.count("unmap") == 0);
    CHECK(space.in_kernel() == 0);
    CHECK(space.dma().mapping_count() == 0);
    CHECK(space.session().memory().uses(space.host) == 0);
    REQUIRE(space.dma().unmap(everything));
    CHECK(space.kernel.count("unmap_all") == 1);
}

TEST_CASE("without UNMAP_ALL the whole space is unmapped in two halves") {
    Space space{Backend::container};
    space.kernel.rules.unmap_all = false;
    REQUIRE(space.map(0, page - 1));
    REQUIRE(space.map(std::uint64_t{1} << 63, (std::uint64_t{1} << 63) + page - 1));
    REQUIRE(space.map(~std::uint64_t{0} - 2 * page + 1, ~std::uint64_t{0} - page));
    REQUIRE(space.dma().unmap(everything));
    CHECK(space.kernel.count("unmap_all") == 0);
    CHECK(space.kernel.count("unmap") == 2);
    CHECK(space.in_kernel() == 0);
    CHECK(space.dma().mapping_count() == 0);
}

TEST_CASE("a mapping across the middle of the space, or a kernel that is wrong about its end, is met one by one") {
    Space space{Backend::container};
    space.kernel.rules.unmap_all = false;
    SECTION("across the middle") {
        REQUIRE(space.map((std::uint64_t{1} << 63) - page, (std::uint64_t{1} << 63) + page - 1));
        REQUIRE(space.map(0, page - 1));
        REQUIRE(space.dma().unmap(everything));
        CHECK(space.kernel.count("unmap") == 2);
    }
    SECTION("wrong about the end") {
        space.kernel.rules.wrong_at_the_end = true;
        REQUIRE(space.map(0, page - 1));
        REQUIRE(space.map(page, 2 * page - 1));
        REQUIRE(space.dma().unmap(everything));
        CHECK(space.kernel.count("unmap") == 4); // two halves, then both mappings, as the first half finds one again
    }
    CHECK(space.in_kernel() == 0);
    CHECK(space.dma().mapping_count() == 0);
}

TEST_CASE("iommufd in the container's place says ENOENT when nothing is there, and that is success") {
    Space space{Backend::container};
    space.kernel.rules.enoent_for_nothing = true;
    space.kernel.rules.unmap_all = false;
    REQUIRE(space.map(0, page - 1)); // the upper half is empty
    REQUIRE(space.dma().unmap(everything));
    CHECK(space.in_kernel() == 0);
}

TEST_CASE("a container takes only so many mappings, and the error says what helps") {
    Space space{Backend::container};
    space.kernel.rules.entry_limit = 3;
    for (std::uint64_t i = 0; i < 3; ++i)
        REQUIRE(space.map(i * page, i * page + page - 1));
    const auto asked = space.kernel.count("map");
    const auto fourth = space.map(0x100000, 0x100fff);
    REQUIRE_FALSE(fourth);
    CHECK(fourth.error().code == Errc::no_resource);
    CHECK(fourth.error().what.find("3 DMA mappings") != std::string::npos);
    CHECK(fourth.error().hint.find("dma_entry_limit") != std::string::npos);
    CHECK(space.kernel.count("map") == asked);
    REQUIRE(space.dma().unmap(iovas(0, page - 1)));
    CHECK(space.map(0x100000, 0x100fff));
}

TEST_CASE("a kernel that runs out of mappings or lockable memory all the same is understood") {
    Space space{BOTH_KINDS};
    space.kernel.rules.locked_limit = 2 * page;
    REQUIRE(space.map(0, page - 1));
    CHECK(space.map_error(0x10000, 0x11fff) == Errc::no_resource);
    space.kernel.rules.fail_next_maps = ENOSPC;
    CHECK(space.map_error(0x20000, 0x20fff) == Errc::no_resource);
    CHECK(space.session().memory().uses(space.host) == 1);
}

TEST_CASE("memory beyond the limit on locking is refused before the kernel pins it, with the number needed") {
    fakes::VfioHost machine;
    machine.limit = LockLimit{8 * page, 2 * page};
    machine.kernel.add("0000:01:00.0", 7, "vfio0");
    const auto host = machine.pages(8 * page);
    REQUIRE(machine.session().memory().add(host, "memory"));
    const auto device = machine.open("0000:01:00.0", BOTH_KINDS);
    REQUIRE(device->dma().map(iovas(0, 4 * page - 1), host.first(4 * page), Access::read_write));
    const auto refused = device->dma().map(iovas(0x10000, 0x10000 + 4 * page - 1), host.last(4 * page), Access::read);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::no_resource);
    CHECK(refused.error().what.find("needs 40 KiB of locked memory") != std::string::npos);
    CHECK(refused.error().what.find("32 KiB") != std::string::npos);
    CHECK(refused.error().hint.find("ulimit -l 40") != std::string::npos);
    CHECK(machine.kernel.count("map") == 1);
}

TEST_CASE("closing a device drops its mappings and their uses of memory") {
    Space space{BOTH_KINDS};
    REQUIRE(space.map(0, 8 * page - 1));
    CHECK(space.session().memory().remove(space.host).error().code == Errc::in_use);
    CHECK(space.kernel.rules.locked == 8 * page);
    space.device.reset();
    CHECK(space.kernel.open_files() == 0);
    CHECK(space.kernel.rules.locked == 0);
    CHECK(space.session().memory().uses(space.host) == 0);
    CHECK(space.session().memory().remove(space.host));
}

} // namespace inox::vfio_address_space_test
