// SPDX-License-Identifier: Apache-2.0
// An accelerator, two processes of a guest, and how they use it.
#pragma once

#include "tests/fakes/dsa_driver.hpp"

namespace inox::fakes {

/// Where things lie in every address space.
namespace dsa_at {
inline constexpr std::uint64_t source = 0x10000;
inline constexpr std::uint64_t target = 0x20000;
inline constexpr std::uint64_t record = 0x30000;
inline constexpr std::uint64_t list = 0x38000;
} // namespace dsa_at

/// Two guests' processes, 1 and 2, each with the same addresses; the plain memory has them too.
struct DsaBench : DsaDriver {
    static constexpr std::uint64_t source = dsa_at::source, target = dsa_at::target, record = dsa_at::record,
                                   list = dsa_at::list;

    explicit DsaBench(const devices::dsa::Shape& shape = {}) : DsaDriver{shape} {
        for (const std::uint32_t guest : {1U, 2U}) {
            spaces.add(guest);
            lay_out(spaces.memory(guest), guest);
        }
        lay_out(plain, 9);
    }
    static void lay_out(PagedMemory& memory, unsigned seed) {
        memory.map(source, 0x4000);
        memory.map(target, 0x4000);
        memory.map(record, 0x1000);
        memory.map(list, 0x1000);
        memory.pattern(source, 0x4000, seed);
        for (std::uint64_t i = 0; i < 0x1000; ++i)
            memory.at(record + i) = std::byte{0};
    }
    static Descriptor of(std::uint32_t guest, Descriptor descriptor) {
        descriptor.pasid_word = guest + DsaSpaces::offset;
        return descriptor;
    }
    static Descriptor copy(std::uint32_t size = 0x2000, std::uint64_t completion = record) {
        return make(devices::dsa::Opcode::memmove, source, target, size, completion);
    }
    /// As a driver waits: what the device did before is seen after it.
    bool done(PagedMemory& memory, std::uint64_t completion = record) {
        return eventually(
            [&] { return std::atomic_ref{memory.at(completion)}.load(std::memory_order_acquire) != std::byte{0}; });
    }
    std::uint8_t status(PagedMemory& memory, std::uint64_t completion = record) {
        return done(memory, completion) ? memory.get<devices::dsa::CompletionRecord>(completion).status
                                        : std::uint8_t{0};
    }
    std::uint8_t error_code() {
        return eventually([&] { return (get64(devices::dsa::reg::swerr) & devices::dsa::swerr::valid) != 0; })
                   ? static_cast<std::uint8_t>(get64(devices::dsa::reg::swerr) >> 8 & 0xff)
                   : std::uint8_t{0};
    }
    bool idle() {
        return eventually([&] {
            for (const auto& queue : accelerator.queues())
                if (queue.counts.submitted != queue.counts.completed + queue.counts.aborted)
                    return false;
            return true;
        });
    }
    /// Nothing of this PASID is held any more.
    bool released(std::uint32_t guest) {
        return eventually([&] { return spaces.references(guest) == 0; });
    }
    void put_list(PagedMemory& memory, std::span<const Descriptor> descriptors) {
        memory.set(list, std::as_bytes(descriptors));
    }
};

} // namespace inox::fakes
