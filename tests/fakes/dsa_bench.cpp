// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/dsa_bench.hpp"

#include "tests/support/eventually.hpp"

namespace inox::fakes {

DsaBench::DsaBench(const devices::dsa::Shape& shape) : DsaDriver{shape} {
    for (const std::uint32_t guest : {1U, 2U}) {
        spaces.add(guest);
        lay_out(spaces.memory(guest), guest);
    }
    lay_out(plain, 9);
}

void DsaBench::lay_out(PagedMemory& memory, unsigned seed) {
    memory.map(source, 0x4000);
    memory.map(target, 0x4000);
    memory.map(record, 0x1000);
    memory.map(list, 0x1000);
    memory.pattern(source, 0x4000, seed);
    for (std::uint64_t i = 0; i < 0x1000; ++i)
        memory.at(record + i) = std::byte{0};
}

DsaBench::Descriptor DsaBench::of(std::uint32_t guest, Descriptor descriptor) {
    descriptor.pasid_word = guest + DsaSpaces::offset;
    return descriptor;
}

DsaBench::Descriptor DsaBench::copy(std::uint32_t size, std::uint64_t completion) {
    return make(devices::dsa::Opcode::memmove, source, target, size, completion);
}

bool DsaBench::done(PagedMemory& memory, std::uint64_t completion) {
    return tests::eventually(
        [&] { return std::atomic_ref{memory.at(completion)}.load(std::memory_order_acquire) != std::byte{0}; });
}

std::uint8_t DsaBench::status(PagedMemory& memory, std::uint64_t completion) {
    return done(memory, completion) ? memory.get<devices::dsa::CompletionRecord>(completion).status : std::uint8_t{0};
}

std::uint8_t DsaBench::error_code() {
    return tests::eventually([&] { return (get64(devices::dsa::reg::swerr) & devices::dsa::swerr::valid) != 0; })
               ? static_cast<std::uint8_t>(get64(devices::dsa::reg::swerr) >> 8 & 0xff)
               : std::uint8_t{0};
}

bool DsaBench::idle() {
    return tests::eventually([&] {
        for (const auto& queue : accelerator.queues())
            if (queue.counts.submitted != queue.counts.completed + queue.counts.aborted)
                return false;
        return true;
    });
}

bool DsaBench::released(std::uint32_t guest) {
    return tests::eventually([&] { return spaces.references(guest) == 0; });
}

void DsaBench::put_list(PagedMemory& memory, std::span<const Descriptor> descriptors) {
    memory.set(list, std::as_bytes(descriptors));
}

} // namespace inox::fakes
