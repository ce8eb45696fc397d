// SPDX-License-Identifier: Apache-2.0
// The registers of the virtual command interface: one page, in VT-d's places (specification 11.4), found by the guest
// as ACPI device INOX0001. docs/guest-abi.md tells the guest.
#pragma once

#include <cstdint>
#include <mutex>

#include "iommu/pasid/pasid_service.hpp"
#include "vmm/bus/bus.hpp"

namespace inox::devices {

/// Commands run on the vCPU that writes; another vCPU sees them in progress.
class PasidRegisters final : public BusDevice {
public:
    static constexpr std::uint64_t magic = 0x000;            ///< u32
    static constexpr std::uint64_t version = 0x004;          ///< u32
    static constexpr std::uint64_t quota = 0x008;            ///< u32: PASIDs the guest may have
    static constexpr std::uint64_t used = 0x00c;             ///< u32: those it has, with those still being freed
    static constexpr std::uint64_t command = 0xe00;          ///< VCMD, u64
    static constexpr std::uint64_t operand = 0xe08;          ///< VCMD_EO, u64
    static constexpr std::uint64_t response = 0xe10;         ///< VCRSP, u64
    static constexpr std::uint64_t capability = 0xe30;       ///< VCCAP, u64
    static constexpr std::uint32_t magic_value = 0x584f4e49; ///< "INOX"
    static constexpr std::uint32_t version_value = 1;

    /// Lives at layout::pasid_registers. `service` must outlive it.
    explicit PasidRegisters(iommu::PasidService& service) : service_{service} {}

    [[nodiscard]] std::string_view name() const override { return "pasid-commands"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    /// With the service. Before the devices that use PASIDs.
    void state(State& state) override;

private:
    [[nodiscard]] std::uint64_t value(std::uint64_t offset) const;

    iommu::PasidService& service_;
    mutable std::mutex mutex_;
    std::uint64_t command_{};  // guarded by mutex_; 0 once it has run
    std::uint64_t operand_{};  // guarded by mutex_; the same
    std::uint64_t response_{}; // guarded by mutex_
};

} // namespace inox::devices
