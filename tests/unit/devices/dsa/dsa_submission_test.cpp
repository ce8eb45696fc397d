// SPDX-License-Identifier: Apache-2.0
// Descriptors from queue to completion record.
#include "devices/dsa/portals.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/dsa_bench.hpp"
#include "tests/support/eventually.hpp"

namespace inox::dsa_submission_test {

using namespace devices::dsa;
using namespace fakes::dsa_at;
using Bench = fakes::DsaBench;
using fakes::DsaDriver;
using tests::eventually;
using Reply = Accelerator::Reply;

TEST_CASE("a shared queue works in the submitter's address space and in no other") {
    Bench bench;
    REQUIRE(bench.bring_up());
    const auto other = bench.spaces.memory(2).host();
    const auto plain = bench.plain.host();
    CHECK(bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy())) == Reply::accepted);
    auto& memory = bench.spaces.memory(1);
    CHECK(bench.status(memory) == 1);
    CHECK(memory.get<CompletionRecord>(record).bytes_completed == 0x2000);
    CHECK(memory.bytes(target, 0x2000) == memory.bytes(source, 0x2000));
    CHECK(bench.spaces.memory(2).host() == other);
    CHECK(bench.plain.host() == plain);
    CHECK(bench.released(1));
    CHECK(bench.accelerator.queues()[0].counts.completed == 1);
}

TEST_CASE("a dedicated queue without PASID works in the function's own space") {
    Bench bench;
    REQUIRE(bench.bring_up());
    auto descriptor = Bench::copy();
    descriptor.pasid_word = 1 + fakes::DsaSpaces::offset; // ignored here
    CHECK(bench.accelerator.post(1, descriptor) == Reply::accepted);
    CHECK(bench.status(bench.plain) == 1);
    CHECK(bench.plain.bytes(target, 0x2000) == bench.plain.bytes(source, 0x2000));
}

TEST_CASE("a dedicated queue with PASID uses the one it was configured with") {
    Bench bench;
    bench.configure();
    bench.set_queue(1, wq::mode_word, 10U << 4 | wq::dedicated | wq::pasid_enable | 2U << 8);
    REQUIRE(bench.accelerator.start());
    REQUIRE(bench.command(Command::enable_device) == 0);
    REQUIRE(bench.command(Command::enable_queue, 1) == 0);
    auto descriptor = Bench::copy();
    descriptor.pasid_word = 1 + fakes::DsaSpaces::offset;
    CHECK(bench.accelerator.post(1, descriptor) == Reply::accepted);
    CHECK(bench.status(bench.spaces.memory(2)) == 1);
    CHECK(bench.spaces.memory(1).at(record) == std::byte{0});
}

TEST_CASE("each kind of write goes to its kind of queue") {
    Bench bench;
    CHECK(bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy())) == Reply::retry); // the queue is disabled
    CHECK(bench.accelerator.enqueue(5, true, Bench::of(1, Bench::copy())) == Reply::retry); // there is no such queue
    CHECK(bench.accelerator.post(1, Bench::copy()) == Reply::refused);
    CHECK(bench.error_code() == swerr::queue_not_enabled);
    bench.set(reg::swerr, 3);
    CHECK((bench.get64(reg::swerr) & 3) == 0);
    REQUIRE(bench.bring_up());
    CHECK(bench.accelerator.enqueue(1, true, Bench::of(1, Bench::copy())) == Reply::retry);
    CHECK(bench.accelerator.post(0, Bench::copy()) == Reply::refused);
    CHECK(bench.error_code() == swerr::wrong_write);
    CHECK(bench.accelerator.post(0, Bench::copy()) == Reply::refused);
    CHECK((bench.get64(reg::swerr) & swerr::overflow) != 0);
    CHECK(bench.accelerator.submit(0, true, Bench::of(1, Bench::copy())) == Reply::refused); // the host's number
    CHECK(bench.accelerator.queues()[0].counts.refused == 3);
    CHECK(bench.released(1));
}

TEST_CASE("a full queue says retry: the limited portal at its threshold, the unlimited one at its size") {
    Bench bench;
    // Without engines, descriptors stay in the queue.
    bench.configure();
    REQUIRE(bench.command(Command::enable_device) == 0);
    REQUIRE(bench.command(Command::enable_queue, 0) == 0);
    REQUIRE(bench.command(Command::enable_queue, 1) == 0);
    for (unsigned i = 0; i < 8; ++i)
        CHECK(bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy())) == Reply::accepted);
    CHECK(bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy())) == Reply::retry);
    for (unsigned i = 8; i < 16; ++i)
        CHECK(bench.accelerator.enqueue(0, false, Bench::of(1, Bench::copy())) == Reply::accepted);
    CHECK(bench.accelerator.enqueue(0, false, Bench::of(1, Bench::copy())) == Reply::retry);
    CHECK((bench.get(reg::wqcfg + 24) & 0xffff) == 16);
    CHECK(bench.spaces.references(1) == 16);
    for (unsigned i = 0; i < 16; ++i)
        CHECK(bench.accelerator.post(1, Bench::copy()) == Reply::accepted);
    CHECK(bench.accelerator.submit(1, true, Bench::copy()) == Reply::retry);
    CHECK(bench.accelerator.post(1, Bench::copy()) == Reply::refused);
    CHECK(bench.error_code() == swerr::queue_overflow);
    CHECK(bench.accelerator.queues()[0].counts.retried == 2);
    // Aborting a PASID removes its work from the queue and drops its references; the other PASID's work stays.
    CHECK(bench.command(Command::abort_pasid, 1) == 0);
    CHECK(bench.spaces.references(1) == 0);
    CHECK(bench.accelerator.queues()[1].occupancy == 16);
    REQUIRE(bench.accelerator.start());
    CHECK(bench.status(bench.plain) == 1);
    CHECK(bench.idle());
}

TEST_CASE("descriptors that break a rule complete with its status, or as a software error") {
    Bench bench;
    REQUIRE(bench.bring_up());
    auto& memory = bench.spaces.memory(1);
    SECTION("bad opcode") {
        auto descriptor = Bench::of(1, Bench::copy());
        descriptor.flags_word = 0x7fU << 24 | flag::completion_address_valid;
        bench.accelerator.enqueue(0, true, descriptor);
        CHECK(bench.status(memory) == 0x10);
    }
    SECTION("no completion address") {
        auto descriptor = Bench::of(1, Bench::copy());
        descriptor.flags_word = 0x7fU << 24;
        bench.accelerator.enqueue(0, true, descriptor);
        CHECK(bench.error_code() == 0x10);
        CHECK((bench.get64(reg::swerr) >> 32 & 0xff) == 0x7f);
        CHECK((bench.get64(reg::swerr) >> 40 & 0xfffff) == 1); // the guest's number
        CHECK(bench.get(reg::intcause) == cause::software_error);
        CHECK(bench.interrupts[0] == 0);
    }
    SECTION("completion address that nobody may write") {
        bench.set(reg::genctrl, genctrl_error_interrupt);
        bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy(0x100, 0x7000000)));
        CHECK(bench.error_code() == 0x1a);
        CHECK(bench.get64(reg::swerr + 16) == 0x7000000);
        CHECK(eventually([&] { return bench.interrupts[0] == 1; }));
    }
    SECTION("completion address that is misaligned") {
        bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy(0x100, record + 16)));
        CHECK(bench.error_code() == 0x1b);
        CHECK(bench.idle());
        CHECK(memory.at(target) == std::byte{0xcc}); // it was not executed
    }
    SECTION("page fault") {
        memory.unmap(target + 0x1000);
        bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy()));
        CHECK(bench.status(memory) == 0x83);
        CHECK(memory.get<CompletionRecord>(record).fault_address == target + 0x1000);
        CHECK(memory.get<CompletionRecord>(record).bytes_completed == 0x1000);
        CHECK(bench.accelerator.queues()[0].counts.faulted == 1);
    }
    SECTION("a PASID that is not there any more") {
        CHECK(bench.accelerator.enqueue(0, true, Bench::of(5, Bench::copy())) == Reply::accepted);
        CHECK(bench.error_code() == 0x1a);
        CHECK((bench.get64(reg::swerr) >> 40 & 0xfffff) == 5);
    }
    SECTION("a dedicated queue's PASID") {
        REQUIRE(bench.command(Command::disable_queue, 2) == 0);
        bench.set_queue(1, wq::mode_word, 10U << 4 | wq::dedicated | wq::pasid_enable | 2U << 8);
        REQUIRE(bench.command(Command::enable_queue, 1) == 0);
        auto descriptor = Bench::copy();
        descriptor.flags_word = 0x7fU << 24;
        descriptor.pasid_word = 9; // ignored here
        bench.accelerator.post(1, descriptor);
        CHECK(bench.error_code() == 0x10);
        CHECK((bench.get64(reg::swerr) >> 40 & 0xfffff) == 2);
        CHECK(bench.command(Command::disable_queue, 2) == 0);
    }
    SECTION("bus mastering is off") {
        bench.accelerator.set_bus_state({.bus_master = false, .pasid = true});
        bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy()));
        CHECK(bench.error_code() == 0x20);
        CHECK(memory.at(target) == std::byte{0xcc});
    }
    CHECK(bench.idle());
    CHECK(bench.released(1));
}

TEST_CASE("no completion record is written unless it was asked for or something failed") {
    Bench bench;
    REQUIRE(bench.bring_up());
    auto descriptor = Bench::of(1, Bench::copy());
    descriptor.flags_word = descriptor.flags_word & ~flag::request_completion;
    bench.accelerator.enqueue(0, true, descriptor);
    CHECK(bench.idle());
    CHECK(bench.spaces.memory(1).at(record) == std::byte{0});
    CHECK(bench.spaces.memory(1).at(target + 1) == bench.spaces.memory(1).at(source + 1));
}

TEST_CASE("a completion interrupt needs a vector that is open to the PASID") {
    Bench bench;
    REQUIRE(bench.bring_up());
    bench.set(reg::msix_perm + 8, 1U << 12 | permission_pasid_enable);
    const auto ask = [&](std::uint32_t guest) {
        auto descriptor = Bench::of(guest, Bench::copy());
        descriptor.flags_word = descriptor.flags_word | flag::request_interrupt;
        descriptor.interrupt_handle = 1;
        bench.accelerator.enqueue(0, true, descriptor);
        return bench.status(bench.spaces.memory(guest));
    };
    CHECK(ask(1) == 1);
    CHECK(eventually([&] { return bench.interrupts[1] == 1; }));
    CHECK(ask(2) == 0x19);
    CHECK(bench.idle());
    CHECK(bench.interrupts[1] == 1);
    bench.set(reg::msix_perm + 8, 0);
    CHECK(bench.released(1));
}

TEST_CASE("no interrupt goes out that the vector's owner did not permit, however its descriptor ends") {
    Bench bench;
    REQUIRE(bench.bring_up());
    bench.set(reg::msix_perm + 8, 1U << 12 | permission_pasid_enable);
    bench.accelerator.set_bus_state({.bus_master = true, .pasid = true, .ats = true}); // no privileged mode
    const auto ask = [&](std::uint32_t guest, unsigned handle, auto&& change) {
        auto descriptor = Bench::of(guest, Bench::copy());
        descriptor.flags_word = descriptor.flags_word | flag::request_interrupt;
        descriptor.interrupt_handle = static_cast<std::uint16_t>(handle);
        change(descriptor);
        CHECK(bench.accelerator.enqueue(0, true, descriptor) == Reply::accepted);
        CHECK(bench.idle());
    };
    const auto sent = [&] {
        REQUIRE(bench.command(Command::drain_all) == 0); // including the last one's interrupt
        unsigned sum = 0;
        for (const auto& count : bench.interrupts)
            sum += count;
        return sum;
    };
    const auto as_it_is = [](Descriptor&) {};
    const auto crooked = [](Descriptor& one) { one.completion = one.completion + 8; };
    const auto unknown = [](Descriptor& one) { one.flags_word = (one.flags_word & 0xffffff) | 0x7fU << 24; };
    const auto privileged = [](Descriptor& one) { one.pasid_word = one.pasid_word | 1U << 31; };
    const auto reserved = [](Descriptor& one) { one.reserved = 1; };
    // Another's vector, the device's own, one that does not exist, and two beyond the bits of any word.
    for (const unsigned handle : {1U, 0U, 3U, 40U, 0xffffU}) {
        ask(2, handle, as_it_is);
        ask(2, handle, crooked);
        ask(2, handle, unknown);
        ask(2, handle, privileged);
        ask(2, handle, reserved);
        CHECK(sent() == 0);
    }
    // A failure interrupts, too, if the descriptor may ask for it.
    ask(1, 1, reserved);
    CHECK(sent() == 1);
    CHECK(bench.interrupts[1] == 1);
}

TEST_CASE("a drain command returns when what came before it is done, an abort stops it half way") {
    Bench bench{{.queues = 2, .entries = 64, .engines = 2}};
    bench.configure();
    bench.set(reg::grpcfg + 32, 3); // two engines in the group
    REQUIRE(bench.accelerator.start());
    REQUIRE(bench.command(Command::enable_device) == 0);
    REQUIRE(bench.command(Command::enable_queue, 0) == 0);
    for (unsigned i = 0; i < 8; ++i)
        while (bench.accelerator.enqueue(0, true, Bench::of(1 + i % 2, Bench::copy(0x4000, record + 32 * i))) ==
               Reply::retry) {
        }
    CHECK(bench.command(Command::drain_all) == 0);
    for (unsigned i = 0; i < 8; ++i)
        CHECK(bench.spaces.memory(1 + i % 2).at(record + 32 * i) == std::byte{1});
    // Submits as much work as fits, then destroys the device.
    for (unsigned i = 0; i < 8; ++i)
        bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy(0x4000)));
    CHECK(bench.command(Command::abort_all) == 0);
    CHECK(bench.accelerator.queues()[0].occupancy == 0);
    CHECK(bench.released(1));
    CHECK(bench.released(2));
    CHECK(bench.command(Command::drain_pasid, 1) == 0);
    CHECK(bench.command(Command::drain_pasid, 77) == 0);
}

TEST_CASE("a drain descriptor waits for those before it, though there are more engines") {
    Bench bench{{.queues = 2, .entries = 64, .engines = 4}};
    bench.configure();
    bench.set(reg::grpcfg + 32, 15);
    REQUIRE(bench.accelerator.start());
    REQUIRE(bench.command(Command::enable_device) == 0);
    REQUIRE(bench.command(Command::enable_queue, 1) == 0);
    for (unsigned round = 0; round < 50; ++round) {
        for (unsigned i = 0; i < 4; ++i) {
            bench.plain.at(record + 32 * i) = std::byte{0};
            REQUIRE(bench.accelerator.post(1, Bench::copy(0x4000, record + 32 * i)) == Reply::accepted);
        }
        bench.plain.at(record + 0x100) = std::byte{0};
        bench.accelerator.post(1, DsaDriver::make(Opcode::drain, 0, 0, 0, record + 0x100));
        REQUIRE(bench.status(bench.plain, record + 0x100) == 1);
        for (unsigned i = 0; i < 4; ++i)
            REQUIRE(bench.plain.at(record + 32 * i) == std::byte{1});
        REQUIRE(bench.idle());
    }
}

TEST_CASE("a reset at any moment leaves no reference and a device that can be brought up again") {
    Bench bench;
    REQUIRE(bench.bring_up());
    for (unsigned round = 0; round < 100; ++round) {
        for (unsigned i = 0; i < 1 + round % 8; ++i) {
            bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy(0x4000)));
            bench.accelerator.post(1, Bench::copy(0x4000));
        }
        REQUIRE(bench.command(round % 3 == 0 ? Command::disable_device : Command::reset_device) == 0);
        REQUIRE(bench.released(1));
        REQUIRE(bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy())) == Reply::retry);
        REQUIRE(bench.bring_up_again());
    }
}

TEST_CASE("two submitters at once: every accepted descriptor completes once") {
    Bench bench;
    REQUIRE(bench.bring_up());
    constexpr unsigned each = 2000;
    const auto submit = [&](std::uint32_t guest) {
        for (unsigned i = 0; i < each; ++i)
            while (bench.accelerator.enqueue(0, guest == 1, Bench::of(guest, Bench::copy(64))) == Reply::retry)
                std::this_thread::yield();
    };
    std::jthread first{submit, 1U}, second{submit, 2U};
    first.join();
    second.join();
    CHECK(bench.idle());
    CHECK(bench.accelerator.queues()[0].counts.completed == 2 * each);
    CHECK(bench.released(1));
    CHECK(bench.released(2));
}

} // namespace inox::dsa_submission_test
