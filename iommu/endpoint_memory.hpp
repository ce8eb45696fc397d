// SPDX-License-Identifier: Apache-2.0
// Guest memory as an emulated device behind the IOMMU reaches it: through its domain's mappings, with a cache.
//
// Who translates takes hold() first; Domains takes the same lock alone before it removes a mapping, and collects what
// is pinned there. The guest is answered when all of that is released. So after the answer nothing is accessed through
// the old mapping.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "iommu/faults.hpp"
#include "iommu/ids.hpp"
#include "iommu/mapping_table.hpp"
#include "vmm/memory/dma_memory.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::iommu {

/// Made by Domains::make_memory(). Thread-safe as DmaMemory is.
class EndpointMemory final : public DmaMemory {
public:
    /// Both must outlive it. Reaches nothing until it is added to the domains.
    EndpointMemory(const GuestMemory& memory, Faults& faults)
        : DmaMemory{&memory.dirty()}, memory_{memory}, faults_{faults} {}

    Hold hold() const override;
    void pin(DmaPin& pin) const override { pins_->add(pin); }
    [[nodiscard]] std::uint64_t generation() const noexcept override {
        return generation_.load(std::memory_order_acquire);
    }

    struct Counts {
        std::uint64_t hits{};
        std::uint64_t misses{};
        std::uint64_t faults{};
    };
    [[nodiscard]] Counts counts() const;

    // For Domains.

    /// What addresses mean.
    enum class View : std::uint8_t { blocked, direct, mapped };
    /// Waits for the holds there are; new ones wait for it.
    [[nodiscard]] std::unique_lock<std::shared_mutex> lock();
    // With that lock.
    void set_id(EndpointId id) { id_ = id; }
    /// `table` must live until the next call; only for View::mapped.
    void set_view(View view, const MappingTable* table);
    /// Mappings in the range have been removed.
    void forget(Range<Iova> range);
    /// What I/O under way uses; the set outlives this when the device does.
    [[nodiscard]] const std::shared_ptr<DmaPins>& pins() const { return pins_; }

private:
    /// A part of a mapping that is RAM: each address in it has its host byte.
    struct Known {
        std::uint64_t start{1};
        std::uint64_t last{0};
        std::byte* host{}; ///< of `start`
        std::uint32_t flags{};
    };
    /// Several threads may hold at once; one of them at a time uses a line, the others go round it.
    struct alignas(64) Line {
        std::atomic<bool> busy{false};
        Known known{};
        std::atomic<std::uint64_t> hits{0}; ///< written while busy
    };
    static constexpr std::size_t line_count = 64;

    [[nodiscard]] Translated do_translate(Range<Iova> range, Access access, std::vector<iovec>& out,
                                          TranslationLimit& limit) const noexcept override;
    [[nodiscard]] Line& line_of(std::uint64_t address) const { return lines_[address / page_size % line_count]; }
    /// One call of translate().
    struct Request;
    [[nodiscard]] Translated translate_direct(const Request& request) const noexcept;
    [[nodiscard]] Translated translate_mapped(Request& request) const noexcept;
    void append_neighbours(Request& request) const noexcept;
    [[nodiscard]] bool find(std::uint64_t address, Known& known) const noexcept;
    [[nodiscard]] bool look_up(std::uint64_t address, Known& known) const noexcept;
    [[nodiscard]] bool part_of(const Mapping& mapping, std::uint64_t address, Known& known) const noexcept;
    Translated refuse(Fault::Reason reason, const Request& request) const noexcept;

    const GuestMemory& memory_;
    Faults& faults_;
    // Shared: hold(); alone: Domains changes what is below. The mutex alone would let devices that hold again and again
    // keep Domains waiting for ever: so they stop at the gate while it waits.
    mutable std::shared_mutex mutex_;
    mutable std::mutex gate_;
    std::atomic<unsigned> waiting_{0};
    const std::shared_ptr<DmaPins> pins_{DmaPins::create()};
    EndpointId id_{};
    View view_{View::blocked};
    const MappingTable* table_{};
    std::atomic<std::uint64_t> generation_{0};
    mutable std::array<Line, line_count> lines_{};
    mutable std::atomic<std::uint64_t> misses_{0};
    mutable std::atomic<std::uint64_t> fault_count_{0};
};

} // namespace inox::iommu
