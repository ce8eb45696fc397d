// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/dma_pins.hpp"

#include <atomic>
#include <thread>

#include "tests/catch.hpp"

namespace inox::memory_dma_pins_test {

using IovaRange = Range<Iova>;

namespace {

IovaRange range(std::uint64_t start, std::uint64_t last) { return *IovaRange::closed(Iova{start}, Iova{last}); }

struct Owner final : DmaPin::Owner {
    void pins_overdue() noexcept override { ++told; }
    int told{0};
};

} // namespace

TEST_CASE("a drain without pins in its way is done, and calls at once") {
    const auto pins = DmaPins::create();
    DmaPin pin;
    pin.ranges = {range(0x1000, 0x1fff), range(0x5000, 0x5fff)};
    pins->add(pin);
    DmaDrain drain;
    for (const auto& one : {range(0, 0xfff), range(0x2000, 0x4fff), range(0x6000, ~std::uint64_t{0})})
        pins->collect(one, drain);
    CHECK(drain.done());
    bool called = false;
    drain.when_done([&] { called = true; });
    CHECK(called);
}

TEST_CASE("edges count, and a pin that came later does not") {
    const auto pins = DmaPins::create();
    DmaPin first, last, later;
    first.ranges = {range(0x1000, 0x1fff)};
    last.ranges = {range(~std::uint64_t{0}, ~std::uint64_t{0}), range(0, 0)};
    later.ranges = {range(0, ~std::uint64_t{0})};
    pins->add(first);
    pins->add(last);
    DmaDrain drain;
    pins->collect(range(0x1fff, 0x2000), drain);
    pins->collect(range(~std::uint64_t{0} - 1, ~std::uint64_t{0}), drain);
    pins->collect(range(0x1000, 0x1000), drain); // collects the same pin again
    pins->add(later);
    int called = 0;
    drain.when_done([&] { ++called; });
    first.release();
    first.release();
    CHECK_FALSE(drain.done());
    last.release();
    CHECK(drain.done());
    CHECK(called == 1);
    later.release();
}

TEST_CASE("owners of what is overdue are told once each, others are not") {
    const auto pins = DmaPins::create();
    const auto owner = std::make_shared<Owner>();
    const auto other = std::make_shared<Owner>();
    DmaPin one, two, unrelated;
    for (DmaPin* pin : {&one, &two, &unrelated}) {
        pin->ranges = {range(pin == &unrelated ? 0x2000 : 0x1000, 0x2fff)};
        pin->owner = pin == &unrelated ? other : owner;
        pins->add(*pin);
    }
    DmaDrain drain;
    drain.hurry();
    pins->collect(range(0x1000, 0x1fff), drain);
    drain.hurry();
    CHECK(owner->told == 1);
    CHECK(other->told == 0);
    CHECK((one.overdue() && two.overdue() && !unrelated.overdue()));
    one.release();
    CHECK_FALSE(one.overdue());
    pins->add(one);
    CHECK_FALSE(one.overdue());
}

TEST_CASE("pins may outlive who had them collected, and the set its device") {
    auto pins = DmaPins::create();
    DmaPin pin;
    pin.ranges = {range(0, 0xfff)};
    pins->add(pin);
    {
        DmaDrain forgotten;
        pins->collect(range(0, 0), forgotten);
    }
    DmaDrain drain;
    pins->collect(range(0, 0), drain);
    bool called = false;
    drain.when_done([&] { called = true; });
    pins.reset();
    pin.release();
    CHECK(called);
}

TEST_CASE("every answer comes once, however pins and drains meet") {
    const auto pins = DmaPins::create();
    std::atomic<bool> stop{false};
    std::vector<std::jthread> devices;
    for (std::uint64_t n = 0; n < 2; ++n)
        devices.emplace_back([&, n] {
            DmaPin pin;
            pin.ranges = {range(n * 0x1000, n * 0x1000 + 0x1fff)};
            while (!stop) {
                pins->add(pin);
                pin.release();
            }
        });
    std::atomic<unsigned> answers{0};
    constexpr unsigned rounds = 20000;
    for (unsigned i = 0; i < rounds; ++i) {
        DmaDrain drain;
        pins->collect(range(0x1000, 0x1fff), drain);
        if (i % 16 == 0)
            drain.hurry();
        drain.when_done([&] { ++answers; });
    }
    stop = true;
    devices.clear();
    CHECK(answers == rounds);
}

} // namespace inox::memory_dma_pins_test
