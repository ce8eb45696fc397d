// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/registered_memory.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "vmm/base/os.hpp"

namespace inox::iommu_registered_memory_test {

using iommu::RegisteredKind;
using iommu::RegisteredMemory;

namespace {

constexpr std::size_t page = 4096;

inox::Mapping pages(std::size_t count) {
    return inox::Mapping::create(count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).value();
}

} // namespace

TEST_CASE("memory is registered once, and goes only when no mapping refers to it") {
    const auto memory = pages(8);
    const auto host = memory.bytes();
    RegisteredMemory registered;
    REQUIRE(registered.add(host.first(4 * page), "low"));
    CHECK(registered.add(host.first(page), "again").error().code == Errc::already_exists);
    CHECK(registered.add(host.subspan(3 * page, 2 * page), "across").error().code == Errc::already_exists);
    REQUIRE(registered.add(host.last(4 * page), "high"));
    REQUIRE(registered.use(host.first(page)));
    REQUIRE(registered.use(host.first(page))); // a second address space
    CHECK(registered.uses(host.first(4 * page)) == 2);
    CHECK(registered.pinned() == 2 * page);
    const auto kept = registered.remove(host.first(4 * page));
    REQUIRE_FALSE(kept);
    CHECK(kept.error().code == Errc::in_use);
    CHECK(kept.error().what == "low is in use by 2 DMA mappings");
    registered.unuse(host.first(page));
    registered.unuse(host.first(page));
    registered.unuse(host.first(page)); // once too often: nothing changes
    CHECK(registered.pinned() == 0);
    CHECK(registered.remove(host.first(page)).error().code == Errc::not_found); // only a part
    CHECK(registered.remove(host.first(4 * page)));
    CHECK(registered.use(host.first(page)).error().code == Errc::not_found);
}

TEST_CASE("a mapping across two registrations, or beyond one, is refused") {
    const auto memory = pages(8);
    const auto host = memory.bytes();
    RegisteredMemory registered;
    REQUIRE(registered.add(host.first(4 * page), "low"));
    REQUIRE(registered.add(host.subspan(4 * page, 2 * page), "high"));
    CHECK_FALSE(registered.use(host.subspan(3 * page, 2 * page)));
    CHECK_FALSE(registered.use(host.subspan(5 * page, 2 * page)));
    CHECK_FALSE(registered.use({}));
    CHECK(registered.uses(host) == 0);
}

TEST_CASE("memory that is not whole pages is refused; registers of a device are not counted as pinned") {
    const auto memory = pages(2);
    RegisteredMemory registered;
    CHECK_FALSE(registered.add(memory.bytes().first(100), "part"));
    CHECK_FALSE(registered.add(memory.bytes().subspan(16, page), "crooked"));
    REQUIRE(registered.add(memory.bytes(), "bar", RegisteredKind::bar));
    REQUIRE(registered.use(memory.bytes()));
    CHECK(registered.pinned() == 0);
    CHECK(registered.uses(memory.bytes()) == 1);
}

TEST_CASE("a child process has neither the memory nor the right to map it") {
    const auto memory = pages(2);
    RegisteredMemory registered;
    REQUIRE(registered.add(memory.bytes(), "ram"));
    const auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        unsigned char resident = 0;
        const bool absent = ::mincore(memory.bytes().data(), page, &resident) != 0 && errno == ENOMEM;
        const auto use = registered.use(memory.bytes());
        ::_exit(absent && !use && use.error().code == Errc::wrong_state ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    REQUIRE(registered.remove(memory.bytes()));
}

} // namespace inox::iommu_registered_memory_test
