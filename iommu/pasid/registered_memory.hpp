// SPDX-License-Identifier: Apache-2.0
// Memory that devices may reach by DMA. It is registered once; every mapping of it counts as a use, and it cannot go
// while used. One process owns the registrations: addresses mean nothing in another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

#include "vmm/base/address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/range.hpp"

namespace inox::iommu {

enum class RegisteredKind : std::uint8_t {
    ram, ///< pinned and counted as locked by the host while mapped
    bar, ///< another device's registers: there is nothing to pin
};

/// Thread-safe.
class RegisteredMemory {
public:
    /// Whole pages. RAM is kept away from forked children: copy-on-write would part a device's pages from the guest's.
    /// already_exists when any byte is registered. `name` is for messages.
    Result<void> add(std::span<std::byte> host, std::string name, RegisteredKind kind = RegisteredKind::ram);
    /// not_found unless these very bytes were added; in_use, with the count, while mappings refer to them.
    Result<void> remove(std::span<std::byte> host);

    /// One mapping more refers to these bytes; they must lie in one registration (not_found). wrong_state in a child
    /// process.
    Result<void> use(std::span<const std::byte> host);
    /// Takes back a use of the same bytes.
    void unuse(std::span<const std::byte> host) noexcept;

    /// For tests: mappings that refer to any byte of the registration that holds `host`; 0 when there is none.
    [[nodiscard]] std::uint64_t uses(std::span<const std::byte> host) const;
    /// Bytes of RAM under all mappings, each mapping counted: what the host holds against the locked-memory limit.
    [[nodiscard]] std::uint64_t pinned() const;

private:
    using HostAddress = Address<struct HostAddressTag>;
    struct Region {
        std::string name;
        RegisteredKind kind;
        mutable std::uint64_t uses{};
    };
    [[nodiscard]] static std::optional<Range<HostAddress>> range_of(std::span<const std::byte> host);

    mutable std::mutex mutex_{};
    int owner_{0}; // guarded by mutex_: process of the first add()
    std::uint64_t pinned_{0};
    RangeMap<HostAddress, Region> regions_{};
};

} // namespace inox::iommu
