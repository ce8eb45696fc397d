// SPDX-License-Identifier: Apache-2.0
// The guest's side of the accelerator: descriptors of any content executed over a small address space, and registers,
// commands and portals in any order (engines run only at the end, so that each input always does the same). What is not
// mapped writable is never written, reported sizes stay within the descriptor's, and a reset leaves no reference
// behind.
#include <cstring>

#include "devices/dsa/accelerator.hpp"
#include "devices/dsa/portals.hpp"
#include "tests/fakes/dsa_driver.hpp"
#include "tests/fakes/dsa_pace.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/eventually.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using namespace devices::dsa;
using fuzz::Input;
using fuzz::require;

Descriptor take_descriptor(Input& input) {
    Descriptor out{};
    const auto bytes = input.take(sizeof out);
    std::memcpy(&out, bytes.data(), bytes.size());
    return out;
}

constexpr std::uint64_t canary = 0x50000;

void lay_out(fakes::PagedMemory& memory) {
    memory.map(0x10000, 0x3000);
    memory.map(0x20000, 0x3000);
    memory.map(0x30000, 0x1000);
    memory.map(canary, 0x1000, Access::read);
    memory.map(0x14000, 0x1000, Access::write);
}

/// Pages without write access must stay as they are.
void check_canary(fakes::PagedMemory& memory) {
    for (std::uint64_t at = canary; at < canary + 0x1000; ++at)
        require(memory.at(at) == std::byte{0xcc});
}

void run_one(const Descriptor& descriptor) {
    fakes::PagedMemory memory{32};
    lay_out(memory);
    fakes::DsaPace pace;
    CpuCopier copier;
    constexpr Limits limits{
        .max_transfer = 1ULL << 31, .max_batch = 16, .user_interrupts = true, .privileged_mode = true};
    if (check(descriptor, limits) != Status::none || descriptor.opcode() == Opcode::batch)
        return;
    const auto out = Operation{memory, pace, copier}.run(descriptor);
    require(!out.cancelled && out.record.status != 0);
    require(out.record.bytes_completed <= std::max<std::uint32_t>(descriptor.size, 0xa0000));
    check_canary(memory);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    Input input{std::as_bytes(std::span{data, size})};
    std::optional<fakes::DsaDriver> driver;
    std::optional<Portals> portals;
    const auto device = [&]() -> fakes::DsaDriver& {
        if (!driver) {
            driver.emplace();
            driver->spaces.add(1);
            portals.emplace(driver->accelerator);
        }
        return *driver;
    };
    while (!input.empty()) {
        const auto kind = input.take<std::uint8_t>() % 8U;
        if (kind == 0) {
            const auto offset = input.take<std::uint16_t>();
            device().set(offset, input.take<std::uint32_t>());
            (void)device().get64(offset);
        } else if (kind < 3) {
            device().accelerator.enqueue(kind - 1U, true, take_descriptor(input));
        } else if (kind < 5) {
            device().accelerator.submit(kind - 3U, false, take_descriptor(input));
        } else if (kind == 5) {
            device().accelerator.post(1, take_descriptor(input));
        } else if (kind == 6) {
            (void)device();
            const auto offset = input.take<std::uint16_t>();
            std::array<std::byte, 8> bytes{};
            store_le(bytes, input.take<std::uint64_t>());
            portals->write(offset, std::span{bytes}.first(offset % 9));
            portals->read(offset, bytes);
        } else {
            run_one(take_descriptor(input));
        }
    }
    if (driver) {
        for (const auto& queue : driver->accelerator.queues())
            require(queue.occupancy <= queue.size);
        // A command that waits for work is finished by the engines.
        require(driver->accelerator.start().has_value());
        require(tests::eventually([&] { return (driver->get(reg::cmdsts) & cmdsts_active) == 0; }));
        require(driver->command(Command::reset_device) == 0);
        require(driver->spaces.references(1) == 0);
        require(driver->get(reg::gensts) == 0);
    }
    return 0;
}
