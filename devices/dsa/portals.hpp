// SPDX-License-Identifier: Apache-2.0
// BAR 2: where descriptors are written. Besides the 64-byte stores of ENQCMD and MOVDIR64B, a descriptor may be written
// as aligned stores of 4 or 8 bytes, each byte once, in any order; when the last is there it is submitted, and a read
// of the slot tells what became of it. docs/dsa.md has the protocol.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "devices/dsa/accelerator.hpp"

namespace inox {
class State;
}

namespace inox::devices::dsa {

/// What a read of a slot gives. Real portals read as ones.
enum class SlotStatus : std::uint32_t {
    accepted = 0,
    retry = 1,
    refused = 2,            ///< no such PASID, reserved bits, or the queue is off
    incomplete = 0xffffffff ///< bytes are missing, or nothing was written yet
};

/// Thread-safe. Two submitters must use different slots; the 64 of a page are alike.
class Portals {
public:
    explicit Portals(Accelerator& accelerator);

    /// Bytes of BAR 2: a power of two.
    [[nodiscard]] std::uint64_t size() const { return size_; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept;
    void write_wide(std::uint64_t offset, std::span<const std::byte, descriptor_size> data) noexcept;
    bool enqueue(std::uint64_t offset, std::span<const std::byte, descriptor_size> command) noexcept;
    /// Descriptors that are written in part, and what became of the last ones.
    void state(State& state);
    /// Forgets what was written so far.
    void reset() noexcept;

private:
    struct Slot {
        std::array<std::byte, descriptor_size> bytes{};
        std::uint16_t present{}; ///< a bit per 4 bytes
        SlotStatus status{SlotStatus::incomplete};
    };
    static constexpr std::size_t slots_per_page = portal_page / descriptor_size;
    using Page = std::array<Slot, slots_per_page>;

    /// Null beyond the queues.
    [[nodiscard]] Slot* slot(std::uint64_t offset);

    Accelerator& accelerator_;
    const std::uint64_t size_;
    std::mutex mutex_;                         // guards below; not held while submitting
    std::vector<std::unique_ptr<Page>> pages_; // by offset; made when first written
};

} // namespace inox::devices::dsa
