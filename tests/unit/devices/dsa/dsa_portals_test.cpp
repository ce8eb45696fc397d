// SPDX-License-Identifier: Apache-2.0
// Batches, and the ways into a queue.
#include "devices/dsa/portals.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/dsa_bench.hpp"

namespace inox::dsa_portals_test {

using namespace devices::dsa;
using namespace fakes::dsa_at;
using Bench = fakes::DsaBench;
using fakes::DsaDriver;
using Reply = Accelerator::Reply;

TEST_CASE("a batch runs in order, in its own PASID, and tells how its members did") {
    Bench bench;
    REQUIRE(bench.bring_up());
    auto& memory = bench.spaces.memory(1);
    std::array members{Bench::copy(0x100, record + 0x40), DsaDriver::make(Opcode::noop, 0, 0, 0, record + 0x60),
                       DsaDriver::make(Opcode::fill, 0x5555555555555555, target, 0x10, record + 0x80)};
    members[0].pasid_word = 2 + fakes::DsaSpaces::offset; // ignored in a list
    const auto run = [&] {
        memory.at(record) = std::byte{0};
        bench.put_list(memory, members);
        bench.accelerator.enqueue(0, true, Bench::of(1, DsaDriver::make(Opcode::batch, list, 0, 3, record)));
        return bench.status(memory);
    };
    CHECK(run() == 1);
    CHECK(memory.get<CompletionRecord>(record).bytes_completed == 3);
    CHECK(memory.at(target + 8) == std::byte{0x55});
    CHECK(memory.at(target + 0x20) == memory.at(source + 0x20));
    CHECK(bench.spaces.memory(2).at(target) == std::byte{0xcc});
    SECTION("a member fails; the others run") {
        members[1].flags_word = 0x7fU << 24 | flag::completion_address_valid;
        memory.at(target) = std::byte{0};
        CHECK(run() == 5);
        CHECK(memory.at(record + 0x60) == std::byte{0x10});
        CHECK(memory.at(target) == std::byte{0x55});
    }
    SECTION("a fence stops behind a failure") {
        members[1].flags_word = 0x7fU << 24;
        members[2].flags_word = members[2].flags_word | flag::fence;
        memory.at(record + 0x80) = std::byte{0};
        CHECK(run() == 5);
        CHECK(memory.get<CompletionRecord>(record).bytes_completed == 2);
        CHECK(memory.at(record + 0x80) == std::byte{0});
        CHECK((bench.get64(reg::swerr) & swerr::batch) != 0);
        CHECK(bench.get(reg::swerr + 8) == 1);
    }
    SECTION("a list that ends in nothing") {
        memory.at(record) = std::byte{0};
        memory.set(list + 0x1000 - 64, std::as_bytes(std::span{members}.first(1)));
        bench.accelerator.enqueue(0, true, Bench::of(1, DsaDriver::make(Opcode::batch, list + 0xfc0, 0, 3, record)));
        CHECK(bench.status(memory) == 6);
        CHECK(memory.get<CompletionRecord>(record).bytes_completed == 1);
        CHECK(memory.get<CompletionRecord>(record).fault_address == list + 0x1000);
    }
    SECTION("a list that contains a batch") {
        members[1] = DsaDriver::make(Opcode::batch, list, 0, 3, record + 0x60);
        CHECK(run() == 5);
        CHECK(memory.at(record + 0x60) == std::byte{0x10});
    }
}

TEST_CASE("a batch's members have its privilege and its PASID, whatever the list says") {
    Bench bench;
    REQUIRE(bench.bring_up());
    REQUIRE(bench.command(Command::disable_device) == 0);
    bench.set(reg::gencfg, 0); // only privileged descriptors may ask for interrupts
    REQUIRE(bench.command(Command::enable_device) == 0);
    REQUIRE(bench.command(Command::enable_queue, 0) == 0);
    bench.set(reg::msix_perm + 8, 1U << 12 | permission_pasid_enable);
    auto& memory = bench.spaces.memory(1);
    std::array members{Bench::copy(0x100, record + 0x40), DsaDriver::make(Opcode::noop, 0, 0, 0, 0)};
    members[0].flags_word = members[0].flags_word | flag::request_interrupt;
    members[0].interrupt_handle = 1;
    members[1].flags_word = 0x7fU << 24; // a software error
    constexpr std::uint32_t priv = 1U << 31;
    const auto run = [&](std::uint32_t batch_privilege, std::uint32_t in_list) {
        memory.at(record) = memory.at(record + 0x40) = std::byte{0};
        for (auto& member : members)
            member.pasid_word = in_list | (2 + fakes::DsaSpaces::offset);
        bench.put_list(memory, members);
        auto batch = Bench::of(1, DsaDriver::make(Opcode::batch, list, 0, 2, record));
        batch.pasid_word = batch.pasid_word | batch_privilege;
        bench.set(reg::swerr, 3);
        bench.accelerator.enqueue(0, true, batch);
        CHECK(bench.status(memory) == 5);
        CHECK((bench.get64(reg::swerr) >> 40 & 0xfffff) == 1);
        CHECK((bench.get64(reg::swerr) & swerr::privileged) == (batch_privilege != 0 ? swerr::privileged : 0));
        return std::to_integer<unsigned>(memory.at(record + 0x40));
    };
    CHECK(run(0, priv) == 0x11); // it may not ask for interrupts
    CHECK(bench.interrupts[1] == 0);
    CHECK(run(priv, 0) == 1);
    CHECK(bench.interrupts[1] == 1);
}

TEST_CASE("plain stores to a slot make a submission, and a read tells what became of it") {
    Bench bench;
    REQUIRE(bench.bring_up());
    Portals portals{bench.accelerator};
    CHECK(portals.size() == 2 * portal_stride);
    const auto status = [&](std::uint64_t at) {
        std::array<std::byte, 4> bytes{};
        portals.read(at, bytes);
        return load_le<std::uint32_t>(bytes);
    };
    const auto store = [&](std::uint64_t at, const Descriptor& descriptor, std::size_t width) {
        const auto bytes = std::as_bytes(std::span{&descriptor, 1});
        for (std::size_t i = 0; i < 64; i += width) {
            CHECK(status(at) == 0xffffffff);
            portals.write(at + i, bytes.subspan(i, width));
        }
    };
    auto descriptor = Bench::copy();
    descriptor.pasid_word = 1; // the guest's number
    constexpr std::uint64_t limited = portal_page;
    store(limited + 0x40, descriptor, 8);
    CHECK(status(limited + 0x40) == 0);
    CHECK(bench.status(bench.spaces.memory(1)) == 1);
    store(limited + 0x80, descriptor, 4);
    CHECK(status(limited + 0x80) == 0);
    descriptor.pasid_word = 3;
    store(limited, descriptor, 8);
    CHECK(status(limited) == 2);
    descriptor.pasid_word = 1U | 1U << 20;
    portals.write(limited, std::as_bytes(std::span{&descriptor, 1}).first(8));
    CHECK(status(limited) == 0xffffffff); // a new submission has started
    store(portal_stride, Bench::copy(), 8);
    CHECK(status(portal_stride) == 0);
    CHECK(bench.status(bench.plain) == 1);
    // Beyond the last portal.
    std::array<std::byte, 8> bytes{};
    portals.write(2 * portal_stride, bytes);
    portals.read(2 * portal_stride, bytes);
    CHECK(load_le(bytes) == ~std::uint64_t{0});
    portals.write(limited + 1, bytes);
    portals.reset();
    CHECK(status(limited + 0x40) == 0xffffffff);
}

TEST_CASE("wide stores and enqueues find their queue by the portal's offset") {
    Bench bench;
    REQUIRE(bench.bring_up());
    Portals portals{bench.accelerator};
    const auto bytes = [](const Descriptor& descriptor) {
        std::array<std::byte, 64> out;
        std::memcpy(out.data(), &descriptor, 64);
        return out;
    };
    CHECK(portals.enqueue(portal_page, bytes(Bench::of(1, Bench::copy()))));
    CHECK(portals.enqueue(2 * portal_page + 0xfc0, bytes(Bench::of(2, Bench::copy()))));
    CHECK_FALSE(portals.enqueue(portal_stride, bytes(Bench::of(1, Bench::copy()))));
    CHECK_FALSE(portals.enqueue(2 * portal_stride, bytes(Bench::of(1, Bench::copy()))));
    portals.write_wide(portal_stride + portal_page, bytes(Bench::copy()));
    CHECK(bench.status(bench.spaces.memory(1)) == 1);
    CHECK(bench.status(bench.spaces.memory(2)) == 1);
    CHECK(bench.status(bench.plain) == 1);
}

} // namespace inox::dsa_portals_test
