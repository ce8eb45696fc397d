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
constexpr std::uint64_t batch_at = 0x20000;

void lay_out(fakes::PagedMemory& memory) {
    memory.map(0x10000, 0x3000);
    memory.map(0x20000, 0x3000);
    memory.pattern(0x21000, 0x2000); // is unlike the rest
    memory.map(0x30000, 0x1000);
    memory.map(canary, 0x1000, Access::read);
    memory.map(0x14000, 0x1000, Access::write);
}

/// Pages without write access must stay as they are.
void check_canary(fakes::PagedMemory& memory) {
    for (std::uint64_t at = canary; at < canary + 0x1000; ++at)
        require(memory.at(at) == std::byte{0xcc});
}

/// One that may succeed: its bytes lie where memory is.
Descriptor take_good_descriptor(Input& input) {
    const auto at = [&] { return 0x10000 + input.take<std::uint8_t>() * 0x140ULL; };
    const auto from = at();
    const auto to = at();
    auto out =
        fakes::DsaDriver::make(static_cast<Opcode>(input.take<std::uint8_t>() % 0x14), from, to,
                               input.take<std::uint16_t>() % 0x1800U, 0x30000 + input.take<std::uint8_t>() * 32U);
    const auto more = input.take<std::uint8_t>();
    out.flags_word = out.flags_word | (more & 3U) | (more & 4U) << 2; // fence, block on fault, interrupt
    out.pasid_word = more >= 64 ? 1 + (more >= 160 ? fakes::DsaSpaces::offset : 0) : 0;
    out.interrupt_handle = static_cast<std::uint16_t>(more / 8U % 4);
    if (more % 16 >= 8)
        std::ranges::copy(input.take(out.specific.size()), out.specific.begin());
    if (out.opcode() == Opcode::batch) {
        out.source = batch_at;
        out.size = 2 + more % 8U;
    }
    return out;
}

/// A driver's way to a queue, by any of its portals.
void use_portal(Portals& portals, Input& input) {
    const auto how = input.take<std::uint8_t>();
    const std::uint64_t offset = how / 4U % 10 * portal_page + how % 4U * descriptor_size;
    const auto descriptor = take_good_descriptor(input);
    const auto bytes = std::as_bytes(std::span{&descriptor, 1}).first<descriptor_size>();
    if (how < 64)
        portals.write_wide(offset, bytes);
    else if (how < 128)
        (void)portals.enqueue(offset, bytes);
    else
        for (std::size_t i = 0; i < descriptor_size; i += how < 192 ? 8 : 4)
            portals.write(offset + i, bytes.subspan(i, how < 192 ? 8 : 4));
    if (how == 255)
        portals.reset();
    std::array<std::byte, 4> status{};
    portals.read(offset, status);
}

/// A device whose queues are on, and a list of descriptors for batches.
void bring_up(fakes::DsaDriver& driver, Input& input) {
    const auto how = input.take<std::uint8_t>();
    for (unsigned i = 0; i < how % 9U; ++i) {
        const auto one = take_good_descriptor(input);
        for (auto* const memory : {&driver.plain, &driver.spaces.memory(1)})
            memory->set(batch_at + i * descriptor_size, std::as_bytes(std::span{&one, 1}));
    }
    if (how == 33) // the PASID goes, or the machine resets the function
        return driver.accelerator.forget(iommu::HostPasid{1 + fakes::DsaSpaces::offset});
    if (how == 34)
        return driver.accelerator.reset_function();
    driver.configure();
    driver.start_command(Command::enable_device);
    driver.start_command(Command::enable_queue, how & 1);
    if (how >= 128)
        driver.start_command(Command::enable_queue, 1 - (how & 1), true);
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
            lay_out(driver->spaces.memory(1));
            lay_out(driver->plain);
            portals.emplace(driver->accelerator);
        }
        return *driver;
    };
    while (!input.empty()) {
        const auto kind = input.take<std::uint8_t>() % 10U;
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
        } else if (kind == 7) {
            run_one(take_descriptor(input));
        } else if (kind == 8) {
            bring_up(device(), input);
        } else {
            (void)device();
            use_portal(*portals, input);
        }
    }
    if (driver) {
        for (const auto& queue : driver->accelerator.queues())
            require(queue.occupancy <= queue.size);
        // A command that waits for work is finished by the engines.
        require(driver->accelerator.start().has_value());
        require(tests::eventually([&] { return (driver->get(reg::cmdsts) & cmdsts_active) == 0; }));
        (void)driver->command(Command::drain_all);
        require(driver->command(Command::reset_device) == 0);
        check_canary(driver->spaces.memory(1));
        check_canary(driver->plain);
        require(driver->spaces.references(1) == 0);
        require(driver->get(reg::gensts) == 0);
    }
    return 0;
}
