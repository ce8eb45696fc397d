// SPDX-License-Identifier: Apache-2.0
// The accelerator over a save and a restore: what was submitted is done before, once, and queues go on with their
// PASIDs.
#include "devices/dsa/portals.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/dsa_bench.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/log_capture.hpp"
#include "tests/support/state.hpp"

namespace inox::dsa_state_test {

using namespace devices::dsa;
using fakes::DsaBench;
using nlohmann::json;
using tests::eventually;

namespace {

/// Queue 0 shared, queue 1 dedicated to PASID 2, and the first vector of a descriptor for PASID 1.
void bring_up(DsaBench& bench) {
    REQUIRE(bench.accelerator.start());
    bench.configure();
    bench.set_queue(1, wq::mode_word, 1U << 4 | wq::dedicated | wq::pasid_enable | 2U << 8);
    bench.set(reg::msix_perm + 8, 1U << 12 | permission_pasid_enable);
    bench.set(reg::genctrl, genctrl_error_interrupt);
    REQUIRE(bench.command(Command::enable_device) == 0);
    REQUIRE(bench.command(Command::enable_queue, 0) == 0);
    REQUIRE(bench.command(Command::enable_queue, 1) == 0);
}

bool comes_to_rest(Accelerator& accelerator) {
    return eventually([&] { return accelerator.drain(); });
}

} // namespace

TEST_CASE("what was submitted to a paused accelerator is done when it is at rest") {
    DsaBench bench;
    bring_up(bench);
    bench.accelerator.pause();
    for (std::uint64_t i = 0; i < 8; ++i)
        REQUIRE(bench.accelerator.enqueue(0, false, bench.of(1, bench.copy(0x1000, DsaBench::record + 64 * i))) ==
                Accelerator::Reply::accepted);
    CHECK_FALSE(bench.accelerator.drain());
    CHECK(comes_to_rest(bench.accelerator));
    for (std::uint64_t i = 0; i < 8; ++i)
        CHECK(bench.spaces.memory(1).get<CompletionRecord>(DsaBench::record + 64 * i).status == 1);
    CHECK(bench.accelerator.queues()[0].counts.completed == 8);
    CHECK(bench.released(1) == false); // the vector's permission
}

TEST_CASE("a restored accelerator has its registers, and its queues work with the same PASIDs") {
    DsaBench old;
    bring_up(old);
    REQUIRE(old.accelerator.post(0, old.copy()) == Accelerator::Reply::refused); // a software error
    REQUIRE(comes_to_rest(old.accelerator));
    const auto saved = tests::save(old.accelerator);

    DsaBench fresh;
    REQUIRE(fresh.accelerator.start());
    REQUIRE(tests::restore(fresh.accelerator, saved));
    CHECK(tests::save(fresh.accelerator) == saved);
    for (std::uint64_t offset = 0; offset < reg::registers_end; offset += 4)
        CHECK(fresh.get(offset) == old.get(offset));
    CHECK(fresh.spaces.references(1) == old.spaces.references(1));
    CHECK(fresh.spaces.references(2) == old.spaces.references(2));
    for (const auto& count : fresh.interrupts)
        CHECK(count == 0);
    CHECK(fresh.accelerator.enqueue(0, false, fresh.of(1, fresh.copy())) == Accelerator::Reply::accepted);
    CHECK(fresh.status(fresh.spaces.memory(1)) == 1);
    CHECK(fresh.accelerator.post(1, fresh.copy()) == Accelerator::Reply::accepted);
    CHECK(fresh.status(fresh.spaces.memory(2)) == 1);
    CHECK(fresh.command(Command::disable_device) == 0);
    CHECK(fresh.get(reg::gensts) == 0);
}

TEST_CASE("an enabled queue whose PASID is bound to nothing any more is restored, and its work fails") {
    DsaBench old;
    bring_up(old);
    REQUIRE(comes_to_rest(old.accelerator));
    DsaBench fresh;
    fresh.spaces.pasids.erase(2);
    REQUIRE(fresh.accelerator.start());
    REQUIRE(tests::restore(fresh.accelerator, tests::save(old.accelerator)));
    CHECK(fresh.accelerator.post(1, fresh.copy()) == Accelerator::Reply::accepted);
    CHECK(fresh.idle());
    CHECK(fresh.accelerator.queues()[1].counts.completed == 1);
}

TEST_CASE("a descriptor that is written in part is finished on the other side") {
    DsaBench old;
    bring_up(old);
    Portals portals{old.accelerator};
    auto descriptor = old.copy();
    descriptor.pasid_word = 1;
    const auto bytes = std::as_bytes(std::span{&descriptor, 1});
    for (std::size_t at = 0; at < 40; at += 8)
        portals.write(64 + at, bytes.subspan(at, 8));
    auto other = descriptor;
    other.pasid_word = 7; // nobody's
    for (std::size_t at = 0; at < 64; at += 8)
        portals.write(128 + at, std::as_bytes(std::span{&other, 1}).subspan(at, 8));
    REQUIRE(comes_to_rest(old.accelerator));

    DsaBench fresh;
    REQUIRE(fresh.accelerator.start());
    REQUIRE(tests::restore(fresh.accelerator, tests::save(old.accelerator)));
    Portals restored{fresh.accelerator};
    REQUIRE(tests::restore(restored, tests::save(portals)));
    CHECK(tests::save(restored) == tests::save(portals));
    std::array<std::byte, 4> answer{};
    restored.read(128, answer);
    CHECK(load_le<std::uint32_t>(answer) == static_cast<std::uint32_t>(SlotStatus::refused));
    for (std::size_t at = 40; at < 64; at += 8)
        restored.write(64 + at, bytes.subspan(at, 8));
    CHECK(fresh.status(fresh.spaces.memory(1)) == 1);
}

TEST_CASE("damage to an accelerator's state does no harm") {
    const tests::LogCapture log;
    DsaBench old;
    bring_up(old);
    REQUIRE(comes_to_rest(old.accelerator));
    tests::for_each_damage(tests::save(old.accelerator), [](const json& damaged, bool must_fail) {
        DsaBench fresh;
        REQUIRE(fresh.accelerator.start());
        const bool taken = tests::restore(fresh.accelerator, damaged).has_value();
        CHECK_FALSE((taken && must_fail));
        if (!taken)
            return;
        (void)fresh.accelerator.enqueue(0, false, fresh.of(1, fresh.copy()));
        (void)fresh.accelerator.post(1, fresh.copy());
        CHECK(comes_to_rest(fresh.accelerator));
        CHECK(fresh.command(Command::reset_device) == 0);
    });
    DsaBench larger{{.queues = 3, .entries = 64, .engines = 1}};
    CHECK_FALSE(tests::restore(larger.accelerator, tests::save(old.accelerator)));
}

} // namespace inox::dsa_state_test
