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

    explicit DsaBench(const devices::dsa::Shape& shape = {});
    static void lay_out(PagedMemory& memory, unsigned seed);
    static Descriptor of(std::uint32_t guest, Descriptor descriptor);
    static Descriptor copy(std::uint32_t size = 0x2000, std::uint64_t completion = record);
    /// As a driver waits: what the device did before is seen after it.
    bool done(PagedMemory& memory, std::uint64_t completion = record);
    std::uint8_t status(PagedMemory& memory, std::uint64_t completion = record);
    std::uint8_t error_code();
    bool idle();
    /// Nothing of this PASID is held any more.
    bool released(std::uint32_t guest);
    void put_list(PagedMemory& memory, std::span<const Descriptor> descriptors);
};

} // namespace inox::fakes
