// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/pin_memory.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <sys/mman.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/host_files.hpp"

namespace inox::devices::vfio {
namespace {

/// How many bytes of it the host still has to allocate.
std::uint64_t absent_bytes(std::span<const std::byte> host) {
    std::array<unsigned char, 16384> present{};
    std::uint64_t absent = 0;
    for (std::size_t at = 0; at < host.size();) {
        const auto size = std::min<std::size_t>(host.size() - at, present.size() * page_size);
        const auto pages = static_cast<std::ptrdiff_t>(align_up(size, page_size) / page_size);
        // mincore() does not write through this pointer.
        auto* start = const_cast<std::byte*>(host.data() + at); // NOLINT(cppcoreguidelines-pro-type-const-cast)
        if (::mincore(start, size, present.data()) != 0)
            return 0; // unknown
        absent += static_cast<std::uint64_t>(std::count_if(present.begin(), present.begin() + pages,
                                                           [](unsigned char page) { return (page & 1) == 0; })) *
                  page_size;
        at += size;
    }
    return absent;
}

} // namespace

Result<void> check_available(const std::string& root, std::span<const std::span<std::byte>> memory) {
    auto available = host::meminfo(root, "MemAvailable");
    if (available == 0)
        return {};
    available += host::meminfo(root, "HugePages_Rsvd") / KiB * host::meminfo(root, "Hugepagesize");
    const auto needed = std::accumulate(memory.begin(), memory.end(), std::uint64_t{0},
                                        [](auto sum, const auto& one) { return sum + absent_bytes(one); });
    if (needed <= available)
        return {};
    return fail(Errc::memory_unavailable,
                format("DMA pins all of the guest's memory: the host is to give %llu MiB more, and has only "
                       "%llu MiB available",
                       static_cast<unsigned long long>(needed / MiB), static_cast<unsigned long long>(available / MiB)),
                "give the guest less memory, or free some on the host");
}

} // namespace inox::devices::vfio
