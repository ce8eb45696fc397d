// SPDX-License-Identifier: Apache-2.0
// Both transports and their queues between a save and a restore.
#include "tests/catch.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/state.hpp"
#include "tests/support/virtio_registers.hpp"

namespace inox::virtio_state_test {

using namespace tests::registers;
using nlohmann::json;

namespace {

/// A machine with one device, and another with the same memory to which it moves.
struct MmioMove {
    World old{};
    Mmio from{old};
    World fresh{old};
    Mmio to{fresh};
    Stateful& source() { return *from.device; }
    Stateful& target() { return *to.device; }
    void arrive() {}
};
struct PciMove {
    World old{};
    Pci from{old};
    World fresh{old};
    Pci to{fresh, false};
    Stateful& source() { return *from.bus; }
    Stateful& target() { return *to.bus; }
    void arrive() { to.find_bar(); }
};

template <class M> json save(M& move) {
    REQUIRE(move.source().drain());
    return tests::save(move.source());
}
template <class M> void restore(M& move) {
    const auto saved = save(move);
    REQUIRE(tests::restore(move.target(), saved));
    CHECK(tests::save(move.target()) == saved);
    move.arrive();
}

template <class F> void on_both_moves(F&& test) {
    SECTION("virtio-mmio") {
        MmioMove move;
        test(move);
    }
    SECTION("virtio-pci") {
        PciMove move;
        test(move);
    }
}

void ping(World& world, Registers& registers, fakes::VirtqueueDriver& driver) {
    const auto pieces = driver.chain().readable("ping").writable(8).post();
    registers.notify(0);
    world.settle();
    REQUIRE(driver.used());
    CHECK(world.ram.text(pieces[1].address, 4) == "ping");
}

} // namespace

TEST_CASE("a device in use goes on where it was, on the other side") {
    on_both_moves([](auto& move) {
        fakes::VirtqueueDriver driver{move.old.ram, 16};
        start(move.from, driver);
        for (int i = 0; i < 20; ++i) // once round the ring
            ping(move.old, move.from, driver);
        CHECK(move.from.take_queue_interrupts() == 20);
        restore(move);
        CHECK(move.to.get_status() == (ready | status::features_ok | status::driver_ok));
        CHECK(move.fresh.echo->active());
        CHECK(move.fresh.doorbells.bells->size() == 2);
        CHECK(move.to.take_queue_interrupts() == 0);
        move.target().resume();
        move.fresh.settle();
        CHECK(move.to.take_queue_interrupts() == 1); // one may have been lost
        ping(move.fresh, move.to, driver);
        CHECK(move.to.take_queue_interrupts() == 1);
        move.to.set_status(0);
        CHECK(move.fresh.echo->resets == 1);
        start(move.to, driver);
    });
}

TEST_CASE("what the driver asked for and no one had looked at yet is served after a restore, and after a save") {
    const bool moves = GENERATE(false, true);
    const std::uint64_t more = GENERATE(std::uint64_t{0}, feature::event_index);
    on_both_moves([&](auto& move) {
        fakes::VirtqueueDriver driver{move.old.ram, 16};
        start(move.from, driver, feature::version_1 | more);
        ping(move.old, move.from, driver);
        (void)move.from.take_queue_interrupts();
        driver.set_used_event(1);
        REQUIRE(move.source().drain());
        driver.chain().readable("late").writable(8).post();
        move.from.notify(0);
        move.old.settle();
        CHECK_FALSE(driver.used()); // at rest
        if (moves)
            restore(move);
        (moves ? move.target() : move.source()).resume();
        REQUIRE(driver.used());
        CHECK_FALSE(driver.used());
        Registers& now = moves ? static_cast<Registers&>(move.to) : move.from;
        CHECK(now.take_queue_interrupts() >= 1);
    });
}

TEST_CASE("a driver half way through its start goes on with it") {
    on_both_moves([](auto& move) {
        fakes::VirtqueueDriver driver{move.old.ram, 16};
        move.from.set_status(ready);
        move.from.accept(feature::version_1);
        restore(move);
        move.target().resume();
        CHECK(move.to.get_status() == ready);
        CHECK_FALSE(move.fresh.echo->active());
        move.to.set_status(ready | status::features_ok);
        REQUIRE(move.to.get_status() == (ready | status::features_ok));
        move.to.set_queue(0, driver.layout);
        move.to.set_status(ready | status::features_ok | status::driver_ok);
        const auto pieces = driver.chain().readable("ping").writable(8).post();
        move.to.notify(0);
        move.fresh.settle();
        CHECK(driver.used());
    });
}

TEST_CASE("a device that a driver has broken stays so until its reset") {
    const tests::LogCapture log;
    on_both_moves([](auto& move) {
        fakes::VirtqueueDriver driver{move.old.ram, 16};
        start(move.from, driver);
        driver.make_available(99);
        move.from.notify(0);
        move.old.settle();
        REQUIRE((move.from.get_status() & status::needs_reset) != 0);
        restore(move);
        move.target().resume();
        move.fresh.settle();
        CHECK((move.to.get_status() & status::needs_reset) != 0);
        CHECK(move.fresh.echo->counters().kicks == 0);
        move.to.set_status(0);
        fakes::VirtqueueDriver again{move.old.ram, 16};
        start(move.to, again);
        ping(move.fresh, move.to, again);
    });
}

TEST_CASE("a configuration interrupt that the driver has not seen is raised again without MSI-X") {
    PciMove move;
    move.from.config(move.from.capability(0x11) + 2, std::uint16_t{0});
    fakes::VirtqueueDriver driver{move.old.ram, 16};
    start(move.from, driver);
    move.old.echo->change_config();
    CHECK(move.old.irqs.lines.back()->take() == 1);
    restore(move);
    CHECK(move.to.config<std::uint8_t>(6) == 0x18); // capabilities, interrupt
    CHECK(move.fresh.irqs.lines.back()->take() == 0);
    move.target().resume();
    CHECK(move.fresh.irqs.lines.back()->take() >= 1);
    CHECK((move.fresh.read<std::uint8_t>(move.to.base + 0x1000) & 2) == 2);
}

TEST_CASE("a driver that uses what the device does not have here is refused with the bits") {
    MmioMove move;
    fakes::VirtqueueDriver driver{move.old.ram, 16};
    start(move.from, driver);
    auto saved = save(move);
    saved["transport"]["accepted_features"] = feature::version_1 | feature::bit(5);
    const auto refused = tests::restore(move.target(), saved);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().what.find("(0x20)") != std::string::npos);
    CHECK(refused.error().code == Errc::snapshot_invalid);
}

TEST_CASE("a device that claims to be active without a driver is refused") {
    MmioMove move;
    auto saved = save(move);
    saved["transport"]["active"] = true;
    CHECK_FALSE(tests::restore(move.target(), saved));
    CHECK_FALSE(move.fresh.echo->active());
}

TEST_CASE("damage to a transport's state does no harm") {
    const tests::LogCapture log;
    on_both_moves([](auto& move) {
        fakes::VirtqueueDriver driver{move.old.ram, 16};
        start(move.from, driver, feature::version_1 | feature::event_index);
        for (int i = 0; i < 3; ++i)
            ping(move.old, move.from, driver);
        driver.chain().readable("more").writable(8).post();
        tests::for_each_damage(save(move), [](const json& damaged, bool must_fail) {
            std::remove_reference_t<decltype(move)> other; // memory of its own: rings of zeros
            const bool taken = tests::restore(other.target(), damaged).has_value();
            CHECK_FALSE((taken && must_fail));
            if (!taken)
                return;
            other.arrive();
            other.target().resume();
            other.to.notify(0);
            other.to.notify(1);
            other.fresh.settle();
            REQUIRE(other.target().drain());
            (void)tests::save(other.target());
            other.target().resume();
            other.to.set_status(0);
        });
    });
}

} // namespace inox::virtio_state_test
