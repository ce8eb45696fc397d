// SPDX-License-Identifier: Apache-2.0
// The accelerator as its driver sees it, and a guest's PASIDs behind it.
#pragma once

#include <array>
#include <atomic>
#include <map>

#include "devices/dsa/accelerator.hpp"
#include "tests/fakes/paged_memory.hpp"

namespace inox::fakes {

/// PASIDs with memory of their own. Host numbers are the guest's plus 0x8000. Counts references.
class DsaSpaces final : public devices::dsa::Spaces {
public:
    struct Pasid {
        PagedMemory memory{64};
        std::atomic<int> references{0};
    };

    void add(std::uint32_t guest) { pasids[guest] = std::make_shared<Pasid>(); }
    std::shared_ptr<devices::dsa::Space> open(iommu::GuestPasid guest) noexcept override { return take(guest.raw()); }
    std::shared_ptr<devices::dsa::Space> open(iommu::HostPasid host) noexcept override;
    std::optional<iommu::GuestPasid> guest_of(iommu::HostPasid host) noexcept override;
    PagedMemory& memory(std::uint32_t guest) { return pasids.at(guest)->memory; }
    int references(std::uint32_t guest) { return pasids.at(guest)->references; }

    static constexpr std::uint32_t offset = 0x8000;
    std::map<std::uint32_t, std::shared_ptr<Pasid>> pasids{};

private:
    class View final : public devices::dsa::Space {
    public:
        View(std::shared_ptr<Pasid> pasid, std::uint32_t number);
        ~View() override { --pasid_->references; }
        iommu::HostPasid pasid() const noexcept override { return iommu::HostPasid{number_ + offset}; }
        const DmaMemory& memory(bool) const noexcept override { return pasid_->memory; }

    private:
        std::shared_ptr<Pasid> pasid_;
        std::uint32_t number_;
    };
    std::shared_ptr<devices::dsa::Space> take(std::uint32_t guest);
};

struct DsaDriver {
    using Accelerator = devices::dsa::Accelerator;
    using Command = devices::dsa::Command;
    using Descriptor = devices::dsa::Descriptor;

    PagedMemory plain{256};
    DsaSpaces spaces{};
    std::array<std::atomic<unsigned>, devices::dsa::max_vectors> interrupts{};
    Accelerator accelerator;

    explicit DsaDriver(const devices::dsa::Shape& shape = {});

    std::uint32_t get(std::uint64_t offset);
    std::uint64_t get64(std::uint64_t offset);
    void set(std::uint64_t offset, std::uint32_t value);
    void set64(std::uint64_t offset, std::uint64_t value);
    void set_queue(unsigned queue, unsigned word, std::uint32_t value);
    void start_command(Command command, std::uint32_t operand = 0, bool interrupt = false);
    /// Waits; the error field.
    std::uint32_t command(Command command, std::uint32_t operand = 0);
    /// Queue 0 shared, of 16 with a threshold of 8; queue 1 dedicated, of 16, without PASID; one group.
    void configure();
    bool bring_up() { return accelerator.start() && bring_up_again(); }
    bool bring_up_again();

    static Descriptor make(devices::dsa::Opcode opcode, std::uint64_t from, std::uint64_t to, std::uint32_t size,
                           std::uint64_t completion);
};

} // namespace inox::fakes
