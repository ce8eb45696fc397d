// SPDX-License-Identifier: Apache-2.0
// A guest at a serial port, with any registers in any order, and a host that types. Whatever the input, no more goes
// out than the guest wrote, and the host hears of room only where it was refused some.
//
//   input   an operation, then its operand: bit 7 typed input, else an access as of the bus
#include "devices/serial.hpp"
#include "tests/fakes/fake_irqs.hpp"
#include "tests/fuzz/bus_access.hpp"
#include "tests/fuzz/input.hpp"
#include "vmm/memory/layout.hpp"

using namespace inox;

namespace {

using fuzz::Input;
using fuzz::require;

constexpr std::uint64_t base = 0x3f8;

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto line = std::make_shared<fakes::FakeIrqLine::State>();
    std::size_t sent = 0;
    const auto serial = std::make_shared<devices::Serial>(
        std::make_unique<fakes::FakeIrqLine>(line), [&](std::span<const std::byte> bytes) { sent += bytes.size(); });
    std::size_t room_calls = 0;
    std::size_t refusals = 0;
    serial->on_input_room([&] { ++room_calls; });
    PortBus ports;
    require(ports.add(*Range<IoPort>::sized(IoPort{base}, 8), serial).has_value());
    Input input{std::as_bytes(std::span{data, size})};
    std::size_t writes = 0;
    while (!input.empty()) {
        const auto what = input.take<std::uint8_t>();
        if (what < 0xc0) {
            const auto how = input.take<std::uint8_t>();
            writes += (how & 0x80) != 0;
            fuzz::access(ports, base + what % 8, how, input.take<std::uint32_t>());
        } else {
            const auto typed = input.take(what % 32U);
            const auto taken = serial->receive(typed);
            require(taken <= typed.size());
            refusals += taken < typed.size();
        }
        require(sent <= writes * 8 && room_calls <= refusals);
    }
    return 0;
}
