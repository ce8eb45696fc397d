// SPDX-License-Identifier: Apache-2.0
// Very long work: pausing, aborting, resetting and stopping take effect within one piece of it.
#include <chrono>

#include "tests/catch.hpp"
#include "tests/fakes/dsa_bench.hpp"
#include "tests/fakes/endless_memory.hpp"
#include "tests/support/eventually.hpp"

namespace inox::dsa_interruption_test {

using namespace devices::dsa;
using fakes::DsaDriver;
using tests::eventually;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds piece{2};
constexpr std::uint32_t huge = 1U << 31;
/// Two GiB take at least half a minute; a command must not take a tenth of that.
constexpr std::chrono::seconds prompt{3};
static_assert(prompt * 10 < huge / Transfer::chunk_size * piece);

struct Bench {
    fakes::EndlessMemory memory{piece};
    std::atomic<unsigned> interrupts{};
    Accelerator accelerator{{.queues = 1, .entries = 16, .engines = 2},
                            {memory, nullptr, [this](unsigned) { ++interrupts; }, {}}};

    Bench() {
        // As a list of descriptors, a page has as many long copies as a batch may have.
        auto member = DsaDriver::make(Opcode::memmove, 0x1'0000'0000, 0x9'0000'0000, huge, 0);
        member.flags_word = static_cast<std::uint32_t>(Opcode::memmove) << 24;
        for (auto& page : memory.pages)
            for (std::size_t at = 0; at < page.size(); at += descriptor_size)
                std::memcpy(page.data() + at, &member, descriptor_size);
        accelerator.set_bus_state({.bus_master = true});
        set(reg::wqcfg, 16);
        set(reg::wqcfg + 8, wq::dedicated | 10U << 4);
        set(reg::wqcfg + 12, 31U | 10U << 5);
        set(reg::grpcfg, 1);
        set(reg::grpcfg + 32, 3);
        REQUIRE(accelerator.start());
        REQUIRE(command(Command::enable_device) == 0);
        REQUIRE(command(Command::enable_queue) == 0);
    }
    std::uint32_t get(std::uint64_t offset) {
        std::array<std::byte, 4> bytes{};
        accelerator.read(offset, bytes);
        return load_le<std::uint32_t>(bytes);
    }
    void set(std::uint64_t offset, std::uint32_t value) {
        std::array<std::byte, 4> bytes{};
        store_le(bytes, value);
        accelerator.write(offset, bytes);
    }
    std::uint32_t command(Command code, std::uint32_t operand = 0) {
        set(reg::cmd, static_cast<std::uint32_t>(code) << 20 | operand);
        return eventually([&] { return (get(reg::cmdsts) & cmdsts_active) == 0; }) ? get(reg::cmdsts) : 0xffffU;
    }
    /// Returns once both engines work on the descriptor.
    void keep_busy(const Descriptor& descriptor) {
        const auto before = memory.holds.load();
        REQUIRE(accelerator.post(0, descriptor) == Accelerator::Reply::accepted);
        REQUIRE(accelerator.post(0, descriptor) == Accelerator::Reply::accepted);
        REQUIRE(eventually([&] { return accelerator.queues()[0].occupancy == 0 && memory.holds > before + 4; }));
    }
    [[nodiscard]] bool rests() const {
        const auto before = memory.holds.load();
        std::this_thread::sleep_for(20 * piece);
        return memory.holds == before;
    }
};

template <class F> auto time_of(F&& what) {
    const auto start = Clock::now();
    what();
    return Clock::now() - start;
}

Descriptor long_work(unsigned kind) {
    constexpr std::uint64_t from = 0x1'0000'0000, to = 0x9'0000'0000;
    switch (kind) {
    case 0:
        return DsaDriver::make(Opcode::memmove, from, to, huge, 0x1000);
    case 1:
        return DsaDriver::make(Opcode::memmove, from, from + 0x1000, huge, 0x1000); // backward
    case 2:
        return DsaDriver::make(Opcode::fill, 0, to, huge, 0x1000);
    case 3:
        return DsaDriver::make(Opcode::compare, from, to, huge, 0x1000);
    case 4:
        return DsaDriver::make(Opcode::crc, from, 0, huge, 0x1000);
    default:
        return DsaDriver::make(Opcode::batch, from, 0, 1U << max_batch_shift, 0x1000);
    }
}

} // namespace

TEST_CASE("long work rests while the device is paused, and goes on after") {
    const auto kind = GENERATE(range(0U, 6U));
    INFO("work " << kind);
    Bench bench;
    bench.keep_busy(long_work(kind));
    CHECK(time_of([&] { bench.accelerator.pause(); }) < prompt);
    CHECK(bench.rests());
    // A submission during the pause waits, and registers answer.
    auto another = long_work(kind);
    CHECK(bench.accelerator.post(0, another) == Accelerator::Reply::accepted);
    CHECK(bench.accelerator.queues()[0].occupancy == 1);
    CHECK(bench.rests());
    const auto before = bench.memory.holds.load();
    bench.accelerator.resume();
    CHECK(eventually([&] { return bench.memory.holds > before + 2; }));
    CHECK(bench.memory.longest <= Transfer::chunk_size);
    CHECK(time_of([&] { CHECK(bench.command(Command::reset_device) == 0); }) < prompt);
    CHECK(bench.rests());
    CHECK(bench.interrupts == 0);
}

TEST_CASE("long work is aborted within a piece of it, also where it rests, and the device ends") {
    const auto kind = GENERATE(range(0U, 6U));
    INFO("work " << kind);
    Bench bench;
    bench.keep_busy(long_work(kind));
    CHECK(time_of([&] { CHECK(bench.command(Command::abort_all) == 0); }) < prompt);
    CHECK(bench.accelerator.queues()[0].counts.aborted == 2);
    bench.keep_busy(long_work(kind));
    bench.accelerator.pause();
    CHECK(bench.command(Command::abort_queue, 1) == 0);
    CHECK(bench.rests());
    bench.accelerator.resume();
    bench.keep_busy(long_work(kind));
    CHECK(time_of([&] {
              bench.accelerator.reset_function();
              CHECK(eventually([&] { return (bench.get(reg::cmdsts) & cmdsts_active) == 0; }));
          }) < prompt);
    CHECK(bench.rests());
    CHECK(bench.get(reg::wqcfg) == 0);
    CHECK(bench.get(reg::gensts) == 0);
}

TEST_CASE("a device ends within a piece of its work, running or paused") {
    for (const bool paused : {false, true}) {
        auto bench = std::make_unique<Bench>();
        bench->keep_busy(long_work(0));
        if (paused)
            bench->accelerator.pause();
        CHECK(time_of([&] { bench.reset(); }) < prompt);
    }
}

TEST_CASE("a pause waits for nothing when nothing is done, and can be repeated") {
    Bench bench;
    bench.accelerator.pause();
    bench.accelerator.pause();
    bench.accelerator.resume();
    bench.accelerator.resume();
    bench.keep_busy(long_work(2));
    bench.accelerator.stop();
    bench.accelerator.pause(); // no engine is left
}

} // namespace inox::dsa_interruption_test
