// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_service.hpp"

#include <algorithm>
#include <atomic>
#include <ctime>
#include <future>
#include <thread>

#include "tests/catch.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/page_tables.hpp"
#include "tests/support/translate.hpp"

namespace inox::iommu_pasid_service_test {

using fakes::PasidGuest;
using iommu::GuestPasid;
using iommu::HostPasid;
using iommu::PageFault;
using iommu::PasidStatus;
using tests::PageTables;

namespace {

constexpr auto endpoint = PasidGuest::endpoint;
constexpr auto other_endpoint = PasidGuest::other_endpoint;

/// Nanoseconds that this thread has run.
std::int64_t thread_time() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

/// The time to bind `count` PASIDs, to unbind and free some of them, and to reset the others.
std::int64_t cost_of(std::uint32_t count) {
    PasidGuest guest{count};
    const auto table = PasidGuest::bound(guest.tables(0));
    std::vector<GuestPasid> pasids;
    for (std::uint32_t i = 0; i < count; ++i)
        pasids.push_back(guest.alloc());
    const auto start = thread_time();
    for (const auto pasid : pasids)
        REQUIRE(guest.service->bind(endpoint, pasid, table) == PasidStatus::ok);
    for (std::uint32_t i = 0; i < count / 4; ++i)
        REQUIRE(guest.service->unbind(endpoint, pasids[i]) == PasidStatus::ok);
    for (std::uint32_t i = 0; i < count / 2; ++i)
        REQUIRE(guest.service->free(pasids[i]) == PasidStatus::ok);
    guest.service->reset();
    const auto took = thread_time() - start;
    REQUIRE(guest.clean());
    return took;
}

} // namespace

TEST_CASE("a guest's numbers start at 1 and are not the host's") {
    PasidGuest guest;
    CHECK(guest.alloc() == GuestPasid{1});
    CHECK(guest.alloc() == GuestPasid{2});
    CHECK(guest.host(GuestPasid{1}) == HostPasid{0x8000});
    GuestPasid out;
    CHECK(guest.service->alloc(out, GuestPasid{0xfffff}) == PasidStatus::ok);
    CHECK(out == GuestPasid{0xfffff});
    CHECK(guest.service->alloc(out, GuestPasid{2}) == PasidStatus::exhausted);
    CHECK(guest.service->alloc(out, GuestPasid{0}) == PasidStatus::invalid);
    CHECK(guest.service->alloc(out, GuestPasid{0x100000}) == PasidStatus::invalid);
}

TEST_CASE("the quota bounds what a guest has, also while it is being freed") {
    PasidGuest guest{2};
    const auto first = guest.alloc();
    const auto host = guest.host(first);
    REQUIRE(guest.alloc() == GuestPasid{2});
    GuestPasid out;
    CHECK(guest.service->alloc(out) == PasidStatus::exhausted);
    REQUIRE(guest.service->acquire(host));
    CHECK(guest.service->free(first) == PasidStatus::ok);
    CHECK(guest.service->alloc(out) == PasidStatus::exhausted);
    guest.service->release(host);
    CHECK(guest.service->alloc(out) == PasidStatus::ok);
    CHECK(out == first);
}

TEST_CASE("a quota that cannot be had is an error of the operator's") {
    iommu::IoasidCore core{100};
    const auto memory = *GuestMemory::create(PasidGuest::ram_size, HugePages::none);
    const auto service = iommu::PasidService::create(core, memory, {.quota = 101});
    REQUIRE_FALSE(service);
    CHECK(service.error().code == Errc::no_resource);
    CHECK(core.available() == 100);
}

TEST_CASE("a service says why submissions trap") {
    const tests::LogCapture log;
    log::set_level(log::Level::debug);
    const PasidGuest guest;
    log::set_level(log::Level::warning);
    CHECK(log.text().find("ENQCMD traps") != std::string::npos);
}

TEST_CASE("the first bind puts the pair into the table, the last unbind takes it out") {
    PasidGuest guest;
    const auto pasid = guest.alloc();
    const auto table = PasidGuest::bound(guest.tables(0));
    CHECK_FALSE(guest.service->submit(pasid));
    CHECK(guest.service->bind(endpoint, pasid, table) == PasidStatus::ok);
    CHECK(guest.service->submit(pasid)->host() == guest.host(pasid));
    CHECK(guest.service->bind(endpoint, pasid, table) == PasidStatus::bound);
    CHECK(guest.service->bind(other_endpoint, pasid, table) == PasidStatus::ok);
    CHECK(guest.references(guest.host(pasid)) == 3); // owner, iommu, cpu
    CHECK(guest.service->unbind(endpoint, pasid) == PasidStatus::ok);
    CHECK(guest.service->submit(pasid));
    CHECK(guest.service->unbind(endpoint, pasid) == PasidStatus::unbound);
    CHECK(guest.service->unbind(other_endpoint, pasid) == PasidStatus::ok);
    CHECK_FALSE(guest.service->submit(pasid));
    CHECK(guest.references(guest.host(pasid)) == 1);
    CHECK(guest.service->free(pasid) == PasidStatus::ok);
    CHECK(guest.clean());
}

TEST_CASE("commands on what is not there change nothing and say so") {
    PasidGuest guest;
    const auto pasid = guest.alloc();
    const auto table = PasidGuest::bound(guest.tables(0));
    REQUIRE(guest.service->acquire(pasid));
    for (const auto unknown : {GuestPasid{0}, GuestPasid{2}, GuestPasid{0x8000}, GuestPasid{0x100001}}) {
        CHECK(guest.service->free(unknown) == PasidStatus::unknown_pasid);
        CHECK(guest.service->bind(endpoint, unknown, table) == PasidStatus::unknown_pasid);
        CHECK(guest.service->unbind(endpoint, unknown) == PasidStatus::unknown_pasid);
        CHECK(guest.service->invalidate(endpoint, unknown, {}) == PasidStatus::unknown_pasid);
        CHECK_FALSE(guest.service->submit(unknown));
    }
    CHECK(guest.service->bind(iommu::EndpointId{0x99}, pasid, table) == PasidStatus::unknown_endpoint);
    CHECK(guest.service->bind(endpoint, pasid, {.root = 0x1001}) == PasidStatus::invalid);
    CHECK(guest.service->bind(endpoint, pasid, {.root = 1ULL << 52}) == PasidStatus::invalid);
    CHECK(guest.service->invalidate(endpoint, pasid, {}) == PasidStatus::unbound);
    CHECK(guest.service->unbind(endpoint, pasid) == PasidStatus::unbound);
    CHECK(guest.references(guest.host(pasid)) == 2);
    CHECK(guest.service->counts().refused == 21);
    CHECK(guest.service->counts().misses == 4);
}

TEST_CASE("two PASIDs reach their own pages and no other") {
    PasidGuest guest;
    auto first_tables = guest.tables(0);
    auto second_tables = guest.tables(1, 5);
    first_tables.map(0x1000, 0x400000);
    second_tables.map(0x1000, 0x500000);
    const auto first = guest.alloc(), second = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, first, PasidGuest::bound(first_tables)) == PasidStatus::ok);
    REQUIRE(guest.service->bind(endpoint, second, PasidGuest::bound(second_tables)) == PasidStatus::ok);
    const auto one = guest.service->memory(endpoint, guest.host(first));
    const auto two = guest.service->memory(endpoint, guest.host(second));
    REQUIRE(one);
    REQUIRE(two);
    CHECK(one->write(Iova{0x1008}, std::uint32_t{111}));
    CHECK(two->write(Iova{0x1008}, std::uint32_t{222}));
    CHECK(guest.memory.read<std::uint32_t>(Gpa{0x400008}) == 111);
    CHECK(guest.memory.read<std::uint32_t>(Gpa{0x500008}) == 222);
    CHECK(one->read<std::uint32_t>(Iova{0x1008}) == 111);
    CHECK(two->read<std::uint32_t>(Iova{0x1008}) == 222);
    CHECK_FALSE(guest.service->memory(other_endpoint, guest.host(first)));
    CHECK_FALSE(guest.service->memory(endpoint, HostPasid{1}));
}

TEST_CASE("an access that the tables do not allow is a fault that names the PASID") {
    PasidGuest guest;
    auto tables = guest.tables(0);
    tables.map(0x1000, 0x400000, PageTables::present | PageTables::user);
    tables.map(0x2000, 0x401000, PageTables::present | PageTables::write);
    tables.map(0x3000, 0xfee00000);
    const auto pasid = guest.alloc();
    auto table = PasidGuest::bound(tables);
    SECTION("user requests") {
        REQUIRE(guest.service->bind(endpoint, pasid, table) == PasidStatus::ok);
        const auto memory = guest.service->memory(endpoint, guest.host(pasid));
        CHECK(memory->read<std::uint64_t>(Iova{0x1000}));
        CHECK_FALSE(memory->write(Iova{0x1000}, std::uint64_t{0}));
        CHECK_FALSE(memory->read<std::uint64_t>(Iova{0x2000}));
        CHECK_FALSE(memory->write(Iova{0x3000}, std::uint64_t{0}));
        CHECK_FALSE(memory->read<std::uint64_t>(Iova{0x4000}));
        std::vector<iovec> pieces;
        CHECK_FALSE(tests::translate(*memory, *Range<Iova>::sized(Iova{0x1ff0}, 0x20), Access::read, pieces));
        CHECK(pieces.empty());
        const auto host = guest.host(pasid);
        using Cause = PageFault::Cause;
        REQUIRE(guest.faults.size() == 5);
        CHECK(guest.faults[0] ==
              iommu::PasidFault{endpoint, pasid, host, Access::write, Iova{0x1000}, false, Cause::protection});
        CHECK(guest.faults[1].cause == Cause::protection);
        CHECK(guest.faults[2].cause == Cause::outside_ram);
        CHECK(guest.faults[3].cause == Cause::not_present);
        CHECK(guest.faults[4].address == Iova{0x2000});
        CHECK_FALSE(guest.service->memory(endpoint, host, true)->read<std::uint64_t>(Iova{0x1000}));
        CHECK(guest.faults[5].privileged);
        CHECK(guest.service->counts().faults == 6);
    }
    SECTION("privileged requests") {
        table.privileged = true;
        REQUIRE(guest.service->bind(endpoint, pasid, table) == PasidStatus::ok);
        const auto memory = guest.service->memory(endpoint, guest.host(pasid), true);
        CHECK(memory->write(Iova{0x1000}, std::uint64_t{0})); // without WPE
        CHECK(memory->write(Iova{0x2000}, std::uint64_t{0}));
        CHECK_FALSE(guest.service->memory(endpoint, guest.host(pasid))->read<std::uint64_t>(Iova{0x2000}));
    }
    SECTION("privileged requests that obey write protection") {
        table.privileged = table.write_protect = true;
        REQUIRE(guest.service->bind(endpoint, pasid, table) == PasidStatus::ok);
        CHECK_FALSE(guest.service->memory(endpoint, guest.host(pasid), true)->write(Iova{0x1000}, std::uint64_t{0}));
    }
}

TEST_CASE("a cached translation lives until the guest invalidates it") {
    PasidGuest guest;
    auto tables = guest.tables(0);
    tables.map(0x1000, 0x400000);
    tables.map(0x200000, 0x600000, PageTables::all, 2);
    (void)guest.memory.write(Gpa{0x400000}, std::uint32_t{1});
    (void)guest.memory.write(Gpa{0x500000}, std::uint32_t{2});
    (void)guest.memory.write(Gpa{0x603000}, std::uint32_t{3});
    (void)guest.memory.write(Gpa{0x803000}, std::uint32_t{4});
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, pasid, PasidGuest::bound(tables)) == PasidStatus::ok);
    const auto memory = guest.service->memory(endpoint, guest.host(pasid));
    CHECK(memory->read<std::uint32_t>(Iova{0x1000}) == 1);
    CHECK(memory->read<std::uint32_t>(Iova{0x203000}) == 3);
    const auto generation = memory->generation();
    tables.map(0x1000, 0x500000);
    tables.map(0x200000, 0x800000, PageTables::all, 2);
    CHECK(memory->read<std::uint32_t>(Iova{0x1000}) == 1);
    const auto range = [](std::uint64_t at) { return Range<Iova>::sized(Iova{at}, page_size); };
    SECTION("the page") {
        REQUIRE(guest.service->invalidate(endpoint, pasid, range(0x1000)) == PasidStatus::ok);
        CHECK(memory->read<std::uint32_t>(Iova{0x1000}) == 2);
    }
    SECTION("one address of a large page") {
        REQUIRE(guest.service->invalidate(endpoint, pasid, range(0x300000)) == PasidStatus::ok);
        CHECK(memory->read<std::uint32_t>(Iova{0x203000}) == 4);
    }
    SECTION("everything") {
        REQUIRE(guest.service->invalidate(endpoint, pasid, {}) == PasidStatus::ok);
        CHECK(memory->read<std::uint32_t>(Iova{0x1000}) == 2);
        CHECK(memory->read<std::uint32_t>(Iova{0x203000}) == 4);
    }
    CHECK(memory->generation() != generation);
    // A write does not use what a read has cached, because the dirty bit must be set.
    CHECK((tables.get(0x1000, 1) & PageTables::dirty) == 0);
    CHECK(memory->write(Iova{0x1000}, std::uint32_t{9}));
    if (guest.memory.read<std::uint32_t>(Gpa{0x500000}) == 9)
        CHECK((tables.get(0x1000, 1) & PageTables::dirty) != 0);
}

TEST_CASE("an unbinding waits for who uses a translation, and refuses everyone after") {
    PasidGuest guest;
    auto tables = guest.tables(0);
    tables.map(0x1000, 0x400000);
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, pasid, PasidGuest::bound(tables)) == PasidStatus::ok);
    const auto memory = guest.service->memory(endpoint, guest.host(pasid));
    std::atomic<bool> unbound{false};
    std::thread other;
    std::future<std::size_t> look;
    bool seen = false;
    {
        const auto hold = memory->hold();
        std::vector<iovec> pieces;
        REQUIRE(tests::translate(*memory, *Range<Iova>::sized(Iova{0x1000}, 64), Access::write, pieces));
        other = std::thread{[&] {
            REQUIRE(guest.service->unbind(endpoint, pasid) == PasidStatus::ok);
            unbound = true;
        }};
        std::this_thread::sleep_for(std::chrono::milliseconds{20});
        CHECK_FALSE(unbound);
        // A viewer does not wait for the command.
        auto looked = std::async(std::launch::async, [&] { return guest.service->snapshot().endpoints.size(); });
        seen = looked.wait_for(std::chrono::seconds{10}) == std::future_status::ready;
        look = std::move(looked);
        std::memset(pieces[0].iov_base, 1, pieces[0].iov_len);
    }
    other.join();
    CHECK(seen);
    CHECK(look.get() == 2);
    CHECK_FALSE(memory->write(Iova{0x1000}, std::uint64_t{0}));
    CHECK_FALSE(guest.service->memory(endpoint, guest.host(pasid)));
    CHECK(guest.faults.empty()); // R24: the guest itself asked for it
}

TEST_CASE("a PASID freed in flight is a new one when it is allocated again") {
    PasidGuest guest;
    auto old_tables = guest.tables(0), new_tables = guest.tables(1);
    old_tables.map(0x1000, 0x400000);
    new_tables.map(0x1000, 0x500000);
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, pasid, PasidGuest::bound(old_tables)) == PasidStatus::ok);
    HostPasid old_host;
    {
        const auto submission = guest.service->submit(pasid);
        REQUIRE(submission);
        old_host = submission->host();
        REQUIRE(guest.service->acquire(old_host)); // held by the device's queue
    }
    const auto old_memory = guest.service->memory(endpoint, old_host);
    REQUIRE(guest.service->free(pasid) == PasidStatus::ok);
    CHECK_FALSE(guest.service->submit(pasid));
    CHECK(guest.core.info(old_host)->free_pending);
    CHECK(guest.references(old_host) == 1);
    CHECK_FALSE(guest.service->acquire(old_host));
    REQUIRE(guest.alloc() == pasid);
    REQUIRE(guest.service->bind(endpoint, pasid, PasidGuest::bound(new_tables)) == PasidStatus::ok);
    CHECK(guest.host(pasid) != old_host);
    CHECK_FALSE(old_memory->write(Iova{0x1000}, std::uint64_t{7}));
    CHECK(guest.service->memory(endpoint, guest.host(pasid))->write(Iova{0x1000}, std::uint64_t{8}));
    CHECK(guest.memory.read<std::uint64_t>(Gpa{0x400000}) == 0);
    guest.service->release(old_host);
    CHECK(guest.references(old_host) == 0);
    guest.service->reset();
    CHECK(guest.clean());
}

TEST_CASE("an endpoint that goes takes its bindings with it") {
    PasidGuest guest;
    const auto table = PasidGuest::bound(guest.tables(0));
    const auto pasid = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, pasid, table) == PasidStatus::ok);
    guest.endpoints.erase(guest.endpoints.begin());
    CHECK_FALSE(guest.service->submit(pasid));
    CHECK(guest.references(guest.host(pasid)) == 1);
    CHECK(guest.service->bind(endpoint, pasid, table) == PasidStatus::unknown_endpoint);
    CHECK_FALSE(guest.service->add_endpoint(other_endpoint, {}));
}

TEST_CASE("a reset frees everything, at any moment") {
    PasidGuest guest{64};
    const auto table = PasidGuest::bound(guest.tables(0));
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&] {
            while (!stop) {
                const auto pasid = guest.alloc();
                (void)guest.service->bind(endpoint, pasid, table);
                if (const auto submission = guest.service->submit(pasid);
                    submission && guest.service->acquire(submission->host()))
                    guest.service->release(submission->host());
                (void)guest.service->unbind(endpoint, pasid);
            }
        });
    for (int i = 0; i < 100; ++i)
        guest.service->reset();
    stop = true;
    for (auto& thread : threads)
        thread.join();
    guest.service->reset();
    CHECK(guest.clean());
    CHECK(guest.core.refused_puts() == 0);
}

TEST_CASE("a command on a PASID costs the same, however many others are bound") {
    constexpr std::uint32_t few = 512, factor = 16;
    std::int64_t small = 1LL << 62, large = 1LL << 62;
    for (int round = 0; round < 3; ++round) {
        small = std::min(small, cost_of(few));
        large = std::min(large, cost_of(few * factor));
    }
    INFO(small << " ns for " << few << ", " << large << " ns for " << few * factor);
    // Linear is 16 times as much. Cache misses make it more; a search through all for each one would make it 256.
    CHECK(large < small * factor * 5);
}

TEST_CASE("a snapshot tells who holds what") {
    PasidGuest guest;
    const auto first = guest.alloc();
    const auto second = guest.alloc();
    REQUIRE(guest.service->bind(endpoint, first, PasidGuest::bound(guest.tables(0))) == PasidStatus::ok);
    REQUIRE(guest.service->acquire(first));
    REQUIRE(guest.service->free(second) == PasidStatus::ok);
    const auto snapshot = guest.service->snapshot();
    CHECK(snapshot.set.quota == 16);
    CHECK(snapshot.set.used == 1);
    REQUIRE(snapshot.pasids.size() == 1);
    const auto& pasid = snapshot.pasids[0];
    CHECK(pasid.id.spid == first);
    CHECK(pasid.in_table);
    CHECK(pasid.id.references == std::array<std::uint16_t, 5>{1, 1, 1, 1, 0});
    REQUIRE(pasid.bindings.size() == 1);
    CHECK(pasid.bindings[0].endpoint == endpoint);
    CHECK(snapshot.counts.allocations == 2);
    CHECK(snapshot.counts.frees == 1);
    CHECK(snapshot.table_bytes == 2 * page_size);
    guest.service->release(guest.host(first));
}

} // namespace inox::iommu_pasid_service_test
