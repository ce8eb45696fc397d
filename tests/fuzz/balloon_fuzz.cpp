// SPDX-License-Identifier: Apache-2.0
// A driver of the balloon with everything on: page numbers, statistics, hints, reports and configuration of any kind.
// Whatever the input, no page goes but those that the guest named, and the rest of its memory stays as it was.
//
//   input   features, bit 7: a balloon without its options, bit 6: memory is pinned; then operations: kind, operand,
//           bytes
#include "devices/virtio/balloon.hpp"
#include "tests/fakes/virtio_driver.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/state.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using namespace devices::virtio;
using fuzz::Input;
using fuzz::require;

constexpr std::uint64_t first_free = 0x200000; ///< free pages are named from here on
constexpr std::uint64_t kept = 0x3ff000;       ///< the guest names no page behind this one
constexpr std::uint64_t mark = 0x6b65702061206269;

BalloonOptions everything() {
    BalloonOptions options;
    options.deflate_on_oom = true;
    options.statistics_interval = std::chrono::seconds{1};
    options.free_page_hinting = true;
    options.free_page_reporting = true;
    return options;
}

struct Target {
    explicit Target(const BalloonOptions& chosen) : options{chosen} {}

    BalloonOptions options;
    EventLoop loop{};
    fakes::VirtioDriver driver{4 * MiB};
    std::shared_ptr<Balloon> balloon = *Balloon::create(options, loop, driver.ram.memory);

    /// The balloon is saved and another one takes its place; with what is damaged it may be refused.
    void move(Input& input) {
        auto saved = fuzz::save(*balloon);
        require(saved.has_value());
        fuzz::damage(*saved, input);
        auto fresh = *Balloon::create(options, loop, driver.ram.memory);
        const bool taken = tests::replace(driver, *fresh, *std::move(saved)).has_value();
        if (taken)
            std::swap(balloon, fresh);
        fresh->reset();
        balloon->resume();
    }
    void ask(std::uint8_t operand) {
        const bool with_statistics = options.statistics_interval.count() != 0;
        require(balloon->statistics().has_value() == with_statistics);
        require(balloon->hinting().has_value() == options.free_page_hinting);
        (void)balloon->set_statistics_interval(std::chrono::seconds{operand});
        require(balloon->target() < driver.ram.memory.size() && !balloon->translatable());
        (void)balloon->actual();
        (void)balloon->released();
        std::array<std::byte, 16> config{};
        balloon->read_config(operand % 24U, std::span{config}.first(1 + operand % 16U));
    }
};

void operate(Target& target, Input& input) {
    const auto kind = input.take<std::uint8_t>();
    const auto operand = input.take<std::uint8_t>();
    const auto queues = static_cast<unsigned>(target.driver.queues.size());
    if (kind < 0x10)
        (void)target.balloon->set_target(std::uint64_t{operand} * MiB / 4);
    else if (kind < 0x18)
        (void)target.balloon->start_hinting((operand & 1) != 0);
    else if (kind < 0x20)
        (void)target.balloon->stop_hinting();
    else if (kind < 0x30)
        target.balloon->write_config(operand % 24U, input.take(kind % 8U + 1));
    else if (kind < 0x38)
        target.balloon->reset_queue(operand % queues);
    else if (kind < 0x3c)
        target.move(input);
    else if (kind < 0x40)
        target.ask(operand);
    else {
        auto chain = target.driver[operand % queues].chain();
        for (unsigned pieces = kind == 0xff ? 40U : 1 + kind % 4U; pieces != 0; --pieces) {
            const auto length = input.take<std::uint8_t>();
            if ((length & 0x80) != 0) {
                // A free page's descriptor names the page itself.
                const auto start = first_free + length % 0x80U * page_size;
                chain.raw({start, length == 0x80 ? static_cast<std::uint32_t>(kept - start) : length * 64U, true});
                continue;
            }
            std::array<std::uint32_t, 32> pages{};
            const auto count = 1U + length % 32;
            for (auto& page : std::span{pages}.first(count))
                page = input.take<std::uint16_t>() % (kept / page_size);
            if ((length & 0x40) != 0)
                pages[count - 1] = 0xfffffff0 + length; // far outside
            chain.readable(std::as_bytes(std::span{pages}.first(count)).first(count * 4 - (length & 0x20 ? 1 : 0)));
        }
        chain.post();
        if ((operand & 0x80) == 0) // else the next kick finds more than one
            target.balloon->kick(operand % queues);
    }
    tests::turn(target.loop);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target full{everything()};
    static Target plain{BalloonOptions{}};
    static Target pinned{everything()};
    pinned.balloon->pin_memory();
    Input input{std::as_bytes(std::span{data, size})};
    const auto features = input.take<std::uint8_t>();
    auto& target = (features & 0x80) != 0 ? plain : (features & 0x40) != 0 ? pinned : full;
    target.driver.ram.put(kept, mark);
    target.driver.activate(*target.balloon, features & target.balloon->features());
    for (int step = 0; step < 30 && !input.empty(); ++step)
        operate(target, input);
    target.balloon->reset();
    tests::turn(target.loop);
    require(target.driver.ram.get<std::uint64_t>(kept) == mark);
    return 0;
}
