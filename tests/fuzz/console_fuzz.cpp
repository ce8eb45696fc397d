// SPDX-License-Identifier: Apache-2.0
// A driver of the virtio console: chains of any shape, a host that types and one that takes output slowly. Whatever the
// input, output is what the chains hold, in order, and every chain that the device takes comes back once.
//
//   input   features, then operations: kind, operand
#include "devices/virtio/console.hpp"
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

struct Target {
    EventLoop loop{};
    fakes::VirtioDriver driver{4 * MiB};
    std::string shown{};
    std::size_t takes{SIZE_MAX}; ///< bytes that output has room for
    std::shared_ptr<Console> console = make();

    std::shared_ptr<Console> make() {
        auto made = *Console::create({}, loop, [this](std::span<const std::byte> bytes) {
            const auto part = bytes.first(std::min(bytes.size(), takes));
            shown.append(reinterpret_cast<const char*>(part.data()), part.size()); // NOLINT
            takes -= part.size();
            return part.size();
        });
        made->on_input_room([] {});
        return made;
    }
    /// The console is saved and another one takes its place; with what is damaged it may be refused, or output may be
    /// what the driver did not send: true.
    bool move(Input& input) {
        auto saved = fuzz::save(*console);
        require(saved.has_value());
        const auto good = *saved;
        fuzz::damage(*saved, input);
        auto fresh = make();
        const bool damaged = *saved != good;
        if (tests::replace(driver, *fresh, *std::move(saved)))
            std::swap(console, fresh);
        fresh->reset();
        console->resume();
        return damaged;
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target target;
    Input input{std::as_bytes(std::span{data, size})};
    target.shown.clear();
    target.takes = SIZE_MAX;
    target.driver.activate(*target.console, input.take<std::uint8_t>() & target.console->features());
    std::string sent;
    std::size_t posted = 0;
    bool damaged = false;
    for (int step = 0; step < 40 && !input.empty(); ++step) {
        const auto kind = input.take<std::uint8_t>();
        const auto operand = input.take<std::uint8_t>();
        if (kind < 0x40) {
            (void)target.console->receive(input.take(operand));
        } else if (kind < 0x48) {
            target.console->resize({operand, kind});
            std::array<std::byte, 16> config{};
            target.console->read_config(operand % 24U, std::span{config}.first(1 + kind % 8U));
        } else if (kind < 0x50) {
            damaged = target.move(input) || damaged;
        } else if (kind < 0x60) {
            target.takes = operand;
            target.console->on_output_room();
        } else {
            const unsigned queue = kind < 0xa0 ? 0 : 1;
            auto chain = target.driver[queue].chain();
            std::string text;
            for (unsigned pieces = 1 + operand % 4U; pieces != 0; --pieces) {
                const auto length = input.take<std::uint8_t>();
                if ((length & 0x80) != 0) {
                    chain.writable(1U + length % 0x80);
                    continue;
                }
                const auto bytes = input.take(1U + length);
                if (bytes.empty())
                    continue;
                chain.readable(bytes);
                text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); // NOLINT
            }
            // A driver that uses a descriptor again before it comes back gets what it wrote over.
            const bool indirect = (operand & 0x40) != 0;
            const auto needed = indirect ? 1 : chain.pieces.size();
            if (!chain.pieces.empty() && posted + needed <= 60) {
                chain.post(indirect);
                posted += needed;
                if (queue == 1)
                    sent += text;
                target.console->kick(queue);
            }
        }
        tests::turn(target.loop);
        require(damaged || target.driver.notifier.broken != 0 || sent.starts_with(target.shown));
    }
    target.console->reset();
    target.driver.notifier.broken = 0;
    tests::turn(target.loop);
    return 0;
}
