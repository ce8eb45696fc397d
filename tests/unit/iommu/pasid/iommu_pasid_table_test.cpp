// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_table.hpp"

#include <atomic>
#include <random>
#include <thread>

#include "iommu/pasid/submission_gate.hpp"
#include "tests/catch.hpp"

namespace inox::iommu_pasid_table_test {

using iommu::GuestPasid;
using iommu::HostPasid;
using iommu::PasidMiss;
using iommu::PasidTable;
using Level = PasidMiss::Level;
using Cause = PasidMiss::Cause;
namespace format = iommu::pasid_format;

namespace {

/// The first translation that differs from the reference, as hardware would see it; empty when all agree.
std::string difference(const PasidTable& table, const std::vector<std::uint32_t>& reference) {
    for (std::uint32_t guest = 0; guest < format::pasids; ++guest) {
        const auto got = table.translate(GuestPasid{guest});
        const std::uint32_t wanted = reference[guest];
        if ((got ? got->raw() | format::entry_valid : 0) != wanted)
            return "guest " + std::to_string(guest);
    }
    return {};
}

std::uint64_t& directory_entry(const PasidTable& table, std::uint32_t guest) {
    return reinterpret_cast<std::uint64_t*>(table.pages().data())[guest >> format::table_bits]; // NOLINT
}
std::uint32_t& table_entry(const PasidTable& table, std::uint32_t guest) {
    const auto place = directory_entry(table, guest) & format::directory_address;
    return reinterpret_cast<std::uint32_t*>(table.pages().data() + place)[guest & 0x3ff]; // NOLINT
}

} // namespace

TEST_CASE("all 2^20 guest PASIDs translate as a flat array says, through sets, replacements and clears") {
    const auto table = *PasidTable::create();
    std::vector<std::uint32_t> reference(format::pasids);
    CHECK(difference(*table, reference).empty());
    std::mt19937 random{1};
    bool answers = true;
    const auto change = [&](unsigned count, bool sets) {
        for (unsigned i = 0; i < count; ++i) {
            const std::uint32_t guest = random() % format::pasids, host = random() % format::pasids;
            if (sets) {
                answers &= table->set(GuestPasid{guest}, HostPasid{host});
                reference[guest] = host | format::entry_valid;
            } else {
                answers &= table->clear(GuestPasid{guest}) == (reference[guest] != 0);
                reference[guest] = 0;
            }
        }
        table->trim();
    };
    change(600000, true);
    CHECK(difference(*table, reference).empty());
    change(600000, false);
    CHECK(difference(*table, reference).empty());
    change(600000, true);
    CHECK(difference(*table, reference).empty());
    CHECK(answers);
    std::size_t entries = 0;
    for (const auto& value : reference)
        entries += value != 0;
    CHECK(table->size() == entries);
    CHECK(table->pairs().size() == entries);
}

TEST_CASE("every input fills and empties the table") {
    const auto table = *PasidTable::create();
    std::vector<std::uint32_t> reference(format::pasids);
    for (std::uint32_t guest = 0; guest < format::pasids; ++guest) {
        reference[guest] = (guest ^ 0x5a5a5) | format::entry_valid;
        (void)table->set(GuestPasid{guest}, HostPasid{guest ^ 0x5a5a5});
    }
    CHECK(difference(*table, reference).empty());
    CHECK(table->resident() == format::file_bytes);
    for (std::uint32_t guest = 0; guest < format::pasids; ++guest)
        (void)table->clear(GuestPasid{guest});
    table->trim();
    CHECK(difference(*table, std::vector<std::uint32_t>(format::pasids)).empty());
    CHECK(table->size() == 0);
}

TEST_CASE("numbers of more than 20 bits are refused") {
    const auto table = *PasidTable::create();
    for (const std::uint32_t number : {0x100000U, 0x100001U, 0x80000000U, ~0U}) {
        CHECK_FALSE(table->set(GuestPasid{number}, HostPasid{1}));
        CHECK_FALSE(table->set(GuestPasid{1}, HostPasid{number}));
        CHECK_FALSE(table->clear(GuestPasid{number}));
        CHECK(table->translate(GuestPasid{number}).error() == PasidMiss{Level::directory, Cause::out_of_range});
    }
    CHECK(table->size() == 0);
}

TEST_CASE("absent and damaged entries are told apart, in both levels") {
    const auto table = *PasidTable::create();
    CHECK(table->translate(GuestPasid{5}).error() == PasidMiss{Level::directory, Cause::not_present});
    REQUIRE(table->set(GuestPasid{5}, HostPasid{7}));
    CHECK(table->translate(GuestPasid{6}).error() == PasidMiss{Level::table, Cause::not_present});
    auto& entry = table_entry(*table, 5);
    auto& directory = directory_entry(*table, 5);
    for (unsigned bit = 20; bit < 31; ++bit) {
        entry |= 1U << bit;
        CHECK(table->translate(GuestPasid{5}).error() == PasidMiss{Level::table, Cause::reserved});
        entry &= ~(1U << bit);
    }
    for (unsigned bit = 1; bit < 64; ++bit) {
        const std::uint64_t before = directory;
        if (bit > 11 && bit < 52)
            continue;
        directory |= 1ULL << bit;
        CHECK(table->translate(GuestPasid{5}).error() == PasidMiss{Level::directory, Cause::reserved});
        directory = before;
    }
    const std::uint64_t before = directory;
    directory = format::file_bytes | format::directory_present; // the first page beyond the file
    CHECK(table->translate(GuestPasid{5}).error() == PasidMiss{Level::directory, Cause::reserved});
    directory = format::directory_address | format::directory_present;
    CHECK(table->translate(GuestPasid{5}).error() == PasidMiss{Level::directory, Cause::reserved});
    directory = before & ~format::directory_present;
    CHECK(table->translate(GuestPasid{5}).error() == PasidMiss{Level::directory, Cause::not_present});
    directory = before;
    CHECK(table->translate(GuestPasid{5}) == HostPasid{7});
}

TEST_CASE("the halves of the number space use the two directories") {
    const auto table = *PasidTable::create();
    REQUIRE(table->set(GuestPasid{0x7ffff}, HostPasid{1}));
    REQUIRE(table->set(GuestPasid{0x80000}, HostPasid{2}));
    const auto* words = reinterpret_cast<const std::uint64_t*>(table->pages().data()); // NOLINT
    CHECK((words[511] & 1) == 1);
    CHECK((words[512] & 1) == 1);
    CHECK(table->translate(GuestPasid{0x7ffff}) == HostPasid{1});
    CHECK(table->translate(GuestPasid{0x80000}) == HostPasid{2});
}

TEST_CASE("pages are taken on demand and returned when empty") {
    const auto table = *PasidTable::create();
    CHECK(table->resident() == 0);
    REQUIRE(table->set(GuestPasid{0}, HostPasid{1}));
    CHECK(table->resident() == 2 * format::page_bytes);
    REQUIRE(table->set(GuestPasid{1023}, HostPasid{1}));
    CHECK(table->resident() == 2 * format::page_bytes);
    REQUIRE(table->set(GuestPasid{1024}, HostPasid{1}));
    CHECK(table->resident() == 3 * format::page_bytes);
    CHECK_FALSE(table->clear(GuestPasid{5000})); // a look-up allocates no page
    CHECK(table->resident() == 3 * format::page_bytes);
    REQUIRE(table->clear(GuestPasid{1024}));
    table->trim();
    CHECK(table->resident() == 2 * format::page_bytes);
    REQUIRE(table->clear(GuestPasid{0}));
    REQUIRE(table->set(GuestPasid{9}, HostPasid{3})); // refilled before the trim
    REQUIRE(table->clear(GuestPasid{1023}));
    table->trim();
    CHECK(table->translate(GuestPasid{9}) == HostPasid{3});
}

TEST_CASE("no kernel takes the table, and the error says so") {
    const auto table = *PasidTable::create();
    const auto result = iommu::hand_to_kernel(*table);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::unsupported);
    CHECK(result.error().what.find("ENQCMD traps") != std::string::npos);
}

TEST_CASE("each look-up beside a writer sees the old entry or the new one") {
    const auto table = *PasidTable::create();
    std::atomic<bool> stop{false};
    std::thread writer{[&] {
        for (unsigned i = 0; !stop; ++i) {
            (void)table->set(GuestPasid{77}, HostPasid{i % 2 == 0 ? 0xaaaaaU : 0x55555U});
            if (i % 64 == 63) {
                (void)table->clear(GuestPasid{77});
                table->trim();
            }
        }
    }};
    unsigned wrong = 0;
    for (unsigned i = 0; i < 200000; ++i) {
        const auto got = table->translate(GuestPasid{77});
        if (got ? *got != HostPasid{0xaaaaa} && *got != HostPasid{0x55555} : got.error().cause != Cause::not_present)
            ++wrong;
    }
    stop = true;
    writer.join();
    CHECK(wrong == 0);
}

TEST_CASE("after a removal drained, no submission uses what it removed") {
    const auto table = *PasidTable::create();
    iommu::SubmissionGate gate;
    constexpr std::uint32_t hosts = 8;
    std::array<std::atomic<bool>, hosts> referenced{};
    std::atomic<bool> stop{false};
    std::atomic<unsigned> wrong{0}, translated{0};
    std::vector<std::thread> submitters;
    for (unsigned t = 0; t < 3; ++t)
        submitters.emplace_back([&, t] {
            for (std::uint32_t i = t; !stop; ++i) {
                std::this_thread::yield(); // with more threads than CPUs, mostly between two passes
                const auto pass = gate.enter();
                const auto host = table->translate(GuestPasid{i % 4 * 1024});
                if (!host)
                    continue;
                ++translated;
                for (unsigned look = 0; look < 20; ++look)
                    if (!referenced[host->raw()])
                        ++wrong;
            }
        });
    for (std::uint32_t i = 0; i < 1000 || translated < 200; ++i) {
        const GuestPasid guest{i % 4 * 1024};
        const HostPasid host{i % hosts};
        referenced[host.raw()] = true;
        (void)table->set(guest, host);
        if (i % 3 == 0)
            std::this_thread::yield();
        (void)table->clear(guest);
        gate.drain();
        table->trim();
        referenced[host.raw()] = false; // drops the reference
    }
    stop = true;
    for (auto& thread : submitters)
        thread.join();
    CHECK(wrong == 0);
    CHECK(gate.in_flight() == 0);
    CHECK(table->size() == 0);
}

TEST_CASE("a drain waits for passes taken before it, not for later ones") {
    iommu::SubmissionGate gate;
    auto early = gate.enter();
    std::atomic<bool> drained{false};
    std::thread drainer{[&] {
        gate.drain();
        drained = true;
    }};
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    CHECK_FALSE(drained);
    const auto late = gate.enter();
    early = {};
    drainer.join();
    CHECK(drained);
    CHECK(gate.in_flight() == 1);
}

} // namespace inox::iommu_pasid_table_test
