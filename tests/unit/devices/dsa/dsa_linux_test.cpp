// SPDX-License-Identifier: Apache-2.0
// The accelerator with the accesses of Linux's driver: the same registers, widths and order, and its interrupt handler.
// Kernel 6.1 sets the PRIV bit of a kernel queue, 6.12 does not. Both write the whole configuration again before they
// enable a queue, and disable it by DRAIN WQ and RESET WQ.
#include "tests/catch.hpp"
#include "tests/fakes/dsa_bench.hpp"
#include "tests/support/eventually.hpp"

namespace inox::dsa_linux_test {

using namespace devices::dsa;
using namespace fakes::dsa_at;
using Bench = fakes::DsaBench;

namespace {

constexpr unsigned queue_count = 2;
constexpr unsigned vector = 1; ///< of queue 0

struct Linux {
    bool sets_privilege{};

    Bench bench{};
    unsigned handled{}; ///< interrupts of vector 0 that were handled

    /// Resets by polling, before interrupts are set up.
    bool reset_by_polling() {
        bench.set(reg::cmd, static_cast<std::uint32_t>(Command::reset_device) << 20);
        return tests::eventually([&] { return (bench.get(reg::cmdsts) & cmdsts_active) == 0; }) &&
               (bench.get(reg::cmdsts) & 0xff) == 0;
    }
    /// Does what vector 0's handler does; returns the causes that it saw.
    std::uint32_t handle_interrupt() {
        const auto seen = bench.get(reg::intcause);
        bench.set(reg::intcause, seen);
        if ((seen & cause::software_error) != 0) {
            const auto first = bench.get64(reg::swerr);
            for (unsigned word = 1; word < 4; ++word)
                (void)bench.get64(reg::swerr + 8 * word);
            bench.set64(reg::swerr, first & 3);
        }
        return seen;
    }
    /// Waits for the command's interrupt; returns its error.
    std::uint32_t command(Command code, std::uint32_t operand = 0) {
        bench.set(reg::cmd, cmd_interrupt | static_cast<std::uint32_t>(code) << 20 | operand);
        if (!tests::eventually([&] { return bench.interrupts[0] > handled; }))
            return 0xffff;
        ++handled;
        CHECK((handle_interrupt() & cause::command) != 0);
        CHECK((bench.get(reg::cmdsts) & cmdsts_active) == 0);
        return bench.get(reg::cmdsts) & 0xff;
    }

    void probe() {
        REQUIRE(reset_by_polling());
        const auto gencap = bench.get64(reg::gencap);
        CHECK((gencap >> 4 & 1) == 1);
        CHECK(bench.get(reg::cmdcap) != 0);
        CHECK((gencap >> 31 & 1) == 1); // the driver may configure the device
        CHECK((bench.get64(reg::grpcap) & 0xff) == 1);
        CHECK((bench.get64(reg::engcap) & 0xff) == 1);
        CHECK((bench.get64(reg::wqcap) >> 16 & 0xff) == queue_count);
        CHECK((bench.get64(reg::wqcap) >> 24 & 0xf) == 0); // entries of 32 bytes
        for (unsigned word = 0; word < 4; ++word)
            (void)bench.get64(reg::opcap + 8 * word);
        CHECK((bench.get64(reg::table_offsets) & 0xffff) == reg::grpcfg / 0x100);
        CHECK(bench.get64(reg::table_offsets + 8) == 0); // no performance counters
        bench.set(reg::genctrl, bench.get(reg::genctrl) | 3);
        CHECK(bench.get(reg::version) == 0x100);
        CHECK((bench.get(reg::gensts) & 3) == 0);
    }
    /// Group 0 has queue 0 and engine 0; queue 0 is dedicated, of 16, without PASID.
    void write_configuration() {
        for (unsigned word = 0; word < 4; ++word)
            bench.set64(reg::grpcfg + 8 * word, word == 0 ? 1 : 0);
        bench.set64(reg::grpcfg + 32, 1);
        bench.set64(reg::grpcfg + 40, 0);
        for (unsigned queue = 0; queue < queue_count; ++queue) {
            std::array<std::uint32_t, wq::words> words{};
            for (unsigned word = 0; word < wq::words; ++word)
                words[word] = bench.get(reg::wqcfg + queue * queue_stride + 4 * word);
            if (queue == 0) {
                words[wq::size_word] = 16;
                words[wq::mode_word] = wq::dedicated | 10U << 4 | (sets_privilege ? wq::privileged : 0);
                words[wq::shift_word] = 21U | 5U << 5;
            }
            for (unsigned word = 0; word < wq::words; ++word)
                bench.set(reg::wqcfg + queue * queue_stride + 4 * word, words[word]);
        }
    }
    void enable_device() {
        write_configuration();
        REQUIRE(command(Command::enable_device) == 0);
    }
    void enable_queue() {
        write_configuration(); // sizes and groups are fixed by then
        bench.set(reg::msix_perm + 8 * vector, 0);
        REQUIRE(command(Command::enable_queue, 0) == 0);
        CHECK(bench.get(reg::wqcfg + 24) >> 30 == 1);
    }
    void disable_queue() {
        REQUIRE(command(Command::drain_queue, 1) == 0);
        REQUIRE(command(Command::reset_queue, 1) == 0);
        bench.set(reg::msix_perm + 8 * vector, 0);
        CHECK(bench.get(reg::wqcfg + 24) >> 30 == 0);
        CHECK((bench.get(reg::wqcfg) & 0xffff) == 16);
        CHECK(bench.get(reg::grpcfg) == 1);
    }
    void copy(unsigned rounds) {
        for (unsigned round = 0; round < rounds; ++round) {
            const auto before = bench.interrupts[vector].load();
            bench.plain.at(record) = std::byte{0};
            bench.plain.pattern(source, 0x2000, round);
            auto descriptor = Bench::copy();
            descriptor.flags_word = descriptor.flags_word | flag::request_interrupt;
            descriptor.interrupt_handle = vector;
            REQUIRE(bench.accelerator.post(0, descriptor) == Accelerator::Reply::accepted);
            REQUIRE(bench.status(bench.plain) == 1);
            REQUIRE(tests::eventually([&] { return bench.interrupts[vector] == before + 1; }));
            REQUIRE(bench.plain.bytes(target, 0x2000) == bench.plain.bytes(source, 0x2000));
        }
    }
    void disable_device() {
        REQUIRE(command(Command::disable_device) == 0);
        REQUIRE(command(Command::reset_device) == 0);
        bench.set(reg::genctrl, 3); // the reset masked it
    }
};

} // namespace

TEST_CASE("Linux's driver brings the accelerator up, uses it, and switches queue and device off and on again") {
    const bool kernel_6_1 = GENERATE(false, true);
    const bool pasids = GENERATE(false, true);
    INFO((kernel_6_1 ? "6.1" : "6.12") << (pasids ? ", PASIDs and ATS on" : ""));
    Linux driver{.sets_privilege = kernel_6_1};
    driver.bench.accelerator.set_bus_state({.bus_master = true, .pasid = pasids, .ats = pasids});
    REQUIRE(driver.bench.accelerator.start());
    driver.probe();
    for (unsigned device = 0; device < 2; ++device) {
        driver.enable_device();
        for (unsigned queue = 0; queue < 3; ++queue) {
            driver.enable_queue();
            driver.copy(5);
            driver.disable_queue();
        }
        driver.disable_device();
    }
    CHECK(driver.bench.interrupts[0] == driver.handled);
    CHECK(driver.bench.get64(reg::swerr) == 0);
}

} // namespace inox::dsa_linux_test
