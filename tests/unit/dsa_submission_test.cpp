// SPDX-License-Identifier: Apache-2.0
// Descriptors from portal to completion record.
#include "devices/dsa/portals.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/dsa_driver.hpp"

using namespace devices::dsa;
using fakes::DsaDriver;
using fakes::eventually;
using Reply = Accelerator::Reply;

namespace {

constexpr std::uint64_t source = 0x10000;
constexpr std::uint64_t target = 0x20000;
constexpr std::uint64_t record = 0x30000;
constexpr std::uint64_t list = 0x38000;

/// Two guests' processes, 1 and 2, each with the same addresses; the plain memory has them too.
struct Bench : DsaDriver {
    explicit Bench(const Shape& shape = {}) : DsaDriver{shape} {
        for (const std::uint32_t guest : {1U, 2U}) {
            spaces.add(guest);
            lay_out(spaces.memory(guest), guest);
        }
        lay_out(plain, 9);
    }
    static void lay_out(fakes::PagedMemory& memory, unsigned seed) {
        memory.map(source, 0x4000);
        memory.map(target, 0x4000);
        memory.map(record, 0x1000);
        memory.map(list, 0x1000);
        memory.pattern(source, 0x4000, seed);
        for (std::uint64_t i = 0; i < 0x1000; ++i)
            memory.at(record + i) = std::byte{0};
    }
    static Descriptor of(std::uint32_t guest, Descriptor descriptor) {
        descriptor.pasid_word = guest + fakes::DsaSpaces::offset;
        return descriptor;
    }
    static Descriptor copy(std::uint32_t size = 0x2000, std::uint64_t completion = record) {
        return make(Opcode::memmove, source, target, size, completion);
    }
    bool done(fakes::PagedMemory& memory, std::uint64_t completion = record) {
        return eventually([&] { return memory.at(completion) != std::byte{0}; });
    }
    std::uint8_t status(fakes::PagedMemory& memory, std::uint64_t completion = record) {
        return done(memory, completion) ? memory.get<CompletionRecord>(completion).status : std::uint8_t{0};
    }
    std::uint8_t error_code() {
        return eventually([&] { return (get64(reg::swerr) & swerr::valid) != 0; })
                   ? static_cast<std::uint8_t>(get64(reg::swerr) >> 8 & 0xff)
                   : std::uint8_t{0};
    }
    bool idle() {
        return eventually([&] {
            for (const auto& queue : accelerator.queues())
                if (queue.counts.submitted != queue.counts.completed + queue.counts.aborted)
                    return false;
            return true;
        });
    }
    /// Nothing of this PASID is held any more.
    bool released(std::uint32_t guest) {
        return eventually([&] { return spaces.references(guest) == 0; });
    }
    void put_list(fakes::PagedMemory& memory, std::span<const Descriptor> descriptors) {
        memory.set(list, std::as_bytes(descriptors));
    }
};

} // namespace

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
    descriptor.pasid_word = 1 + fakes::DsaSpaces::offset; // means nothing here
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
    CHECK(bench.accelerator.enqueue(0, true, Bench::of(1, Bench::copy())) == Reply::retry); // off
    CHECK(bench.accelerator.enqueue(5, true, Bench::of(1, Bench::copy())) == Reply::retry); // not there
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
    // Without engines nothing leaves the queue.
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
    // An abort of the PASID empties its queue and gives its references back; the other's work stays.
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
        CHECK((bench.get64(reg::swerr) >> 40 & 0xfffff) == 1 + fakes::DsaSpaces::offset);
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
        CHECK(memory.at(target) == std::byte{0xcc}); // and was not executed
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

TEST_CASE("a batch runs in order, in its own PASID, and tells how its members did") {
    Bench bench;
    REQUIRE(bench.bring_up());
    auto& memory = bench.spaces.memory(1);
    std::array members{Bench::copy(0x100, record + 0x40), DsaDriver::make(Opcode::noop, 0, 0, 0, record + 0x60),
                       DsaDriver::make(Opcode::fill, 0x5555555555555555, target, 0x10, record + 0x80)};
    members[0].pasid_word = 2 + fakes::DsaSpaces::offset; // means nothing in a list
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
    // As much work as fits, then gone.
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

TEST_CASE("plain stores to a slot make a submission, and a read tells what became of it") {
    Bench bench;
    REQUIRE(bench.bring_up());
    Portals portals{bench.accelerator};
    CHECK(portals.size() == 2 * portal_stride);
    const auto status = [&](std::uint64_t at) {
        std::array<std::byte, 4> bytes{};
        portals.read(at, bytes);
        return vmm::load_le<std::uint32_t>(bytes);
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
    CHECK(status(limited) == 0xffffffff); // begun anew
    store(portal_stride, Bench::copy(), 8);
    CHECK(status(portal_stride) == 0);
    CHECK(bench.status(bench.plain) == 1);
    // Nothing there.
    std::array<std::byte, 8> bytes{};
    portals.write(2 * portal_stride, bytes);
    portals.read(2 * portal_stride, bytes);
    CHECK(vmm::load_le(bytes) == ~std::uint64_t{0});
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
