// SPDX-License-Identifier: Apache-2.0
// Guest RAM and shared BARs in 1:1 address spaces.
#include "devices/vfio/session.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/vfio_host.hpp"
#include "tests/support/log_capture.hpp"

namespace inox::vfio_session_test {

using namespace inox::devices::vfio;
using fakes::iovas;

namespace {

constexpr std::uint64_t page = 4096;

struct Machine : fakes::VfioHost {
    explicit Machine(Backend kind) : backend{kind} {
        kernel.add("0000:01:00.0", 1, "vfio0");
        kernel.add("0000:02:00.0", 2, "vfio1");
    }
    std::unique_ptr<Device> device(const std::string& address) { return open(address, backend); }
    std::size_t mapped(const std::string& address) { return kernel.mappings(address)->size(); }
    void add_ram() {
        REQUIRE(session().add_ram(low = ram(0, 4 * MiB)));
        REQUIRE(session().add_ram(high = ram(4 * GiB, 8 * MiB)));
    }
    Backend backend;
    RamRegion low{*Range<Gpa>::sized(Gpa{0}, 1), {}, 0};
    RamRegion high{low};
};

} // namespace

#define BOTH_KINDS GENERATE(Backend::container, Backend::iommufd)

TEST_CASE("all guest RAM is mapped 1:1, with one call to the kernel for each region") {
    Machine machine{BOTH_KINDS};
    machine.add_ram();
    const auto device = machine.device("0000:01:00.0");
    REQUIRE(machine.session().map_guest(device->dma()));
    CHECK(machine.kernel.count("map") == 2);
    const auto& mappings = *machine.kernel.mappings("0000:01:00.0");
    CHECK(mappings.at(0).size == 4 * MiB);
    CHECK(mappings.at(4 * GiB).size == 8 * MiB);
    CHECK(mappings.at(4 * GiB).vaddr == reinterpret_cast<std::uintptr_t>(machine.high.host.data()));
    REQUIRE(machine.session().map_guest(device->dma())); // as a second device of the group does
    CHECK(machine.kernel.count("map") == 2);
}

TEST_CASE("RAM added later appears in every 1:1 address space") {
    Machine machine{BOTH_KINDS};
    machine.add_ram();
    const auto one = machine.device("0000:01:00.0");
    const auto two = machine.device("0000:02:00.0");
    REQUIRE(machine.session().map_guest(one->dma()));
    const auto more = machine.ram(8 * GiB, 2 * MiB);
    REQUIRE(machine.session().add_ram(more));
    CHECK(machine.mapped("0000:01:00.0") == 3);
    CHECK(machine.mapped("0000:02:00.0") == 0); // not 1:1: the guest's virtual IOMMU decides what it sees
    REQUIRE(machine.session().map_guest(two->dma()));
    CHECK(machine.mapped("0000:02:00.0") == 3);
}

TEST_CASE("a failure half way leaves nothing mapped") {
    Machine machine{BOTH_KINDS};
    machine.add_ram();
    const auto one = machine.device("0000:01:00.0");
    const auto two = machine.device("0000:02:00.0");
    SECTION("while a device is made 1:1") {
        machine.kernel.rules.fail_next_maps = ENOMEM;
        machine.kernel.rules.fail_after = 1;
        CHECK(machine.session().map_guest(one->dma()).error().code == Errc::no_resource);
        CHECK(machine.mapped("0000:01:00.0") == 0);
        CHECK(machine.session().memory().pinned() == 0);
        CHECK(machine.session().map_guest(one->dma()));
    }
    SECTION("while RAM is added to two devices") {
        REQUIRE(machine.session().map_guest(one->dma()));
        REQUIRE(machine.session().map_guest(two->dma()));
        machine.kernel.rules.fail_next_maps = ENOMEM;
        machine.kernel.rules.fail_after = 1;
        const auto more = machine.ram(8 * GiB, 2 * MiB);
        CHECK(machine.session().add_ram(more).error().code == Errc::no_resource);
        CHECK(machine.mapped("0000:01:00.0") == 2);
        CHECK(machine.mapped("0000:02:00.0") == 2);
        CHECK(machine.session().add_ram(more));
        CHECK(machine.mapped("0000:02:00.0") == 3);
    }
}

TEST_CASE("RAM on a reserved region or beyond the IOMMU's addresses is refused by name before anything is mapped") {
    Machine machine{BOTH_KINDS};
    SECTION("reserved") {
        machine.kernel.rules.ranges = {{0, 0xfffff}, {0x200000, 0x7fffffffff}};
        machine.add_ram();
    }
    SECTION("too high") {
        machine.kernel.rules.ranges = {{0, 0xffffffff}};
        machine.add_ram();
    }
    const auto device = machine.device("0000:01:00.0");
    const auto refused = machine.session().map_guest(device->dma());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::reserved_conflict);
    CHECK(refused.error().what.find("IOMMU group 1") != std::string::npos);
    CHECK_FALSE(refused.error().hint.empty());
    CHECK(machine.kernel.count("map") == 0);
}

TEST_CASE("RAM hot-added where a device may not do DMA is refused") {
    Machine machine{BOTH_KINDS};
    machine.add_ram();
    const auto device = machine.device("0000:01:00.0");
    REQUIRE(machine.session().map_guest(device->dma()));
    CHECK(machine.session().add_ram(machine.ram(0xfee00000, 2 * MiB)).error().code == Errc::reserved_conflict);
    CHECK(machine.mapped("0000:01:00.0") == 2);
}

TEST_CASE("all of the RAM is held against the limit on locking at once") {
    Machine machine{BOTH_KINDS};
    machine.limit = LockLimit{10 * MiB};
    machine.add_ram();
    const auto device = machine.device("0000:01:00.0");
    const auto refused = machine.session().map_guest(device->dma());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::no_resource);
    CHECK(refused.error().what.find("12288 KiB") != std::string::npos);
    CHECK(refused.error().what.find("10240 KiB") != std::string::npos);
    CHECK(machine.kernel.count("map") == 0);
}

TEST_CASE("RAM that the host does not have is refused before it is pinned, what is there already counts") {
    Machine machine{BOTH_KINDS};
    machine.kernel.tree.file("proc/meminfo", "MemTotal:       99999 kB\nMemAvailable:    8192 kB\n");
    machine.add_ram();
    const auto device = machine.device("0000:01:00.0");
    const auto refused = machine.session().map_guest(device->dma());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::memory_unavailable);
    CHECK(refused.error().what.find("12 MiB more, and has only 8 MiB") != std::string::npos);
    CHECK(machine.kernel.count("map") == 0);
    std::ranges::fill(machine.low.host, std::byte{1});
    CHECK(machine.session().map_guest(device->dma()));
}

TEST_CASE("a second device counts against the limit on locking too") {
    Machine machine{BOTH_KINDS};
    machine.limit = LockLimit{20 * MiB};
    machine.add_ram();
    const auto one = machine.device("0000:01:00.0");
    const auto two = machine.device("0000:02:00.0");
    REQUIRE(machine.session().map_guest(one->dma()));
    CHECK(machine.session().map_guest(two->dma()).error().what.find("24576 KiB") != std::string::npos);
}

TEST_CASE("by iommufd no BAR is mapped for peers: the kernel is not asked, and that is said once, with what helps") {
    const tests::LogCapture log;
    {
        Machine machine{Backend::iommufd};
        machine.add_ram();
        const auto one = machine.device("0000:01:00.0");
        const auto two = machine.device("0000:02:00.0");
        REQUIRE(machine.session().map_guest(one->dma()));
        REQUIRE(machine.session().map_guest(two->dma()));
        const auto before = machine.kernel.count("map");
        const auto bar = one->map(0, {0, 4 * page});
        REQUIRE(bar);
        const auto shared =
            machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xc2000000}, 4 * page), bar->bytes(), "dev BAR 0");
        CHECK(machine.kernel.count("map") == before);
        CHECK(machine.mapped("0000:02:00.0") == 2);
        devices::vfio::uapi::IoasMap map{};
        map.user_va = reinterpret_cast<std::uintptr_t>(bar->bytes().data());
        CHECK(machine.kernel.ioas_map(-1, map) == -EFAULT); // like every kernel
    }
    const auto text = log.text();
    CHECK(text.find("p2p=on takes the container instead") != text.npos);
    CHECK(text.find("warning") == text.rfind("warning"));
}

TEST_CASE("a shared BAR is mapped in the address spaces that are 1:1, now and later, until it goes") {
    Machine machine{Backend::container};
    machine.add_ram();
    const auto one = machine.device("0000:01:00.0");
    const auto two = machine.device("0000:02:00.0");
    REQUIRE(machine.session().map_guest(one->dma()));
    const auto bar = machine.pages(4 * page);
    {
        const auto shared = machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xc2000000}, 4 * page), bar, "bar");
        CHECK(bool{shared});
        CHECK(machine.mapped("0000:01:00.0") == 3);
        CHECK(machine.mapped("0000:02:00.0") == 0);
        REQUIRE(machine.session().map_guest(two->dma()));
        CHECK(machine.mapped("0000:02:00.0") == 3);
        CHECK(machine.session().memory().pinned() == 2 * 12 * MiB); // registers are not pinned
    }
    CHECK(machine.mapped("0000:01:00.0") == 2);
    CHECK(machine.mapped("0000:02:00.0") == 2);
}

TEST_CASE("a BAR that cannot be shared is a warning, and taking it back does not touch what lies there") {
    Machine machine{Backend::container};
    machine.add_ram();
    const auto one = machine.device("0000:01:00.0");
    REQUIRE(machine.session().map_guest(one->dma()));
    const auto bar = machine.pages(page);
    SECTION("the guest put it over its RAM") {
        auto shared = machine.session().share_bar(*Range<Gpa>::sized(Gpa{0}, page), bar, "bar");
        shared.reset();
    }
    SECTION("over the MSI window") {
        auto shared = machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xfee00000}, page), bar, "bar");
        shared.reset();
    }
    SECTION("the kernel will not") {
        machine.kernel.rules.fail_next_maps = EFAULT;
        auto shared = machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xc2000000}, page), bar, "bar");
        shared.reset();
    }
    SECTION("it is not whole pages") {
        CHECK_FALSE(machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xc2000000}, 256), bar.first(256), "bar"));
    }
    CHECK(machine.mapped("0000:01:00.0") == 2);
    CHECK(machine.session().memory().uses(bar) == 0);
}

TEST_CASE("however many BARs peers do not reach, there is one warning, with their number") {
    const tests::LogCapture log;
    const bool by_timer = GENERATE(false, true); // otherwise by the end
    unsigned asked = 0;
    {
        Machine machine{BOTH_KINDS};
        machine.hooks.on_unreachable = [&] { ++asked; };
        machine.add_ram();
        const auto one = machine.device("0000:01:00.0");
        const auto two = machine.device("0000:02:00.0");
        REQUIRE(machine.session().map_guest(one->dma()));
        REQUIRE(machine.session().map_guest(two->dma()));
        std::vector<Registration> shared;
        for (std::uint64_t i = 0; i < 4; ++i) // over the MSI window
            shared.push_back(machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xfee00000 + i * page}, page),
                                                         machine.pages(page), "bar"));
        if (by_timer)
            machine.session().tell_unreachable();
        shared.push_back(
            machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xfee10000}, page), machine.pages(page), "late"));
    }
    CHECK(asked == 1);
    const auto text = log.text();
    const auto number = by_timer ? "(8 refusals, the first: bar cannot be reached by" : "(10 refusals, the first: bar";
    CHECK(text.find(number) != text.npos);
    CHECK(text.find("warning") == text.rfind("warning"));
}

TEST_CASE("an address space with the guest's own mappings is not made 1:1") {
    Machine machine{BOTH_KINDS};
    machine.add_ram();
    const auto device = machine.device("0000:01:00.0");
    REQUIRE(device->dma().map(iovas(0, page - 1), machine.low.host.first(page), Access::read));
    CHECK(machine.session().map_guest(device->dma()).error().code == Errc::wrong_state);
}

TEST_CASE("a device that is gone leaves RAM free and its neighbours alone") {
    const auto backend = BOTH_KINDS;
    const std::size_t bars = backend == Backend::container ? 1 : 0;
    Machine machine{backend};
    machine.add_ram();
    auto one = machine.device("0000:01:00.0");
    const auto two = machine.device("0000:02:00.0");
    const auto bar = machine.pages(page);
    REQUIRE(machine.session().map_guest(one->dma()));
    REQUIRE(machine.session().map_guest(two->dma()));
    const auto shared = machine.session().share_bar(*Range<Gpa>::sized(Gpa{0xc2000000}, page), bar, "bar");
    one.reset();
    CHECK(machine.mapped("0000:02:00.0") == 2 + bars);
    CHECK(machine.session().memory().uses(machine.low.host) == 1);
    CHECK(machine.session().add_ram(machine.ram(8 * GiB, page)));
    for (int i = 0; i < 10; ++i) { // it comes back ten times, and leaves nothing behind
        const auto files = machine.kernel.open_files();
        one = machine.device("0000:01:00.0");
        REQUIRE(machine.session().map_guest(one->dma()));
        CHECK(machine.mapped("0000:01:00.0") == 3 + bars);
        one.reset();
        CHECK(machine.kernel.open_files() == files);
        CHECK(machine.kernel.rules.locked == machine.session().memory().pinned() + bars * page);
    }
}

} // namespace inox::vfio_session_test
